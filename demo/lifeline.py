"""Standard input as a lifeline: its first line says what to do, its end that the parent is gone.

However the parent dies, the system closes its end of the pipe.
"""

import asyncio
import os
import signal
import sys
import threading
from typing import Any

GRACE_SECONDS = 3.0  # to say goodbye


def first_line() -> str:
    """Wait for the parent's word; exits if it dies before. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return line


def watch() -> asyncio.Event:
    """An event of the running loop that is set once the parent is gone.

    A process that does not end within `GRACE_SECONDS` after that is ended.
    """
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, gone.set)
    threading.Thread(target=_wait, args=(loop, gone), daemon=True).start()
    return gone


def _wait(loop: Any, gone: asyncio.Event) -> None:
    sys.stdin.read()
    timer = threading.Timer(GRACE_SECONDS, os._exit, args=(1,))
    timer.daemon = True
    timer.start()
    loop.call_soon_threadsafe(gone.set)
