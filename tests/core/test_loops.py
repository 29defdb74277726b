"""Background loops go on after a failure, and do not hurry from one to the next."""

import threading
import time

from apps.core.loops import RESTART_SECONDS, Loop


def test_news_does_not_hurry_a_loop_that_fails() -> None:
    rounds: list[float] = []
    again = threading.Event()

    def fail(stopping: threading.Event) -> None:
        rounds.append(time.monotonic())
        if len(rounds) == 2:
            again.set()
        raise OSError("away")

    loop = Loop("failing", fail, every=60.0)
    loop.start()
    try:
        while not again.wait(0.01):
            loop.wake()
    finally:
        loop.stop()

    assert rounds[1] - rounds[0] >= RESTART_SECONDS
