"""A service that gives calls up, and one that tries them again: `-m tests.e2e.letters PART FILE`.

`capture` makes letters until it is killed and notes each in the file once it is kept; `redrive`
tries letters again and notes each run; `deliver` only sends what others left. What is noted is in
the kernel's hands at once.
"""

import os
import signal
import sys
import time
import uuid

from holdfast import Holdfast, Letter
from holdfast._settings import Timing

HANDLER = "charge"
TIMING = Timing(
    backoff_seconds=0.05,
    backoff_max_seconds=1.0,
    adopt_seconds=0.1,
    claim_gap_seconds=0.05,
    claim_wait_seconds=1.0,
    lease_seconds=30,  # the shortest the server takes
)


def capture(hf: Holdfast, note: int) -> None:
    life = uuid.uuid4().hex[:8]
    number = 0
    while True:
        key = f"{life} {number}"
        if hf.dead_letter(HANDLER, key, idempotency_key=key):
            os.write(note, f"{key}\n".encode())
        number += 1
        time.sleep(0.05)


def redrive(hf: Holdfast, note: int) -> None:
    @hf.redrives(HANDLER)
    def charge(letter: Letter) -> None:
        os.write(note, f"{letter.idempotency_key}\n".encode())

    signal.pause()


def deliver(_hf: Holdfast, _note: int) -> None:
    signal.pause()


if __name__ == "__main__":
    hf = Holdfast(timing=TIMING)
    hf.start()
    part = {"capture": capture, "redrive": redrive, "deliver": deliver}[sys.argv[1]]
    part(hf, os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND))
