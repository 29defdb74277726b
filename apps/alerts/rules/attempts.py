"""When a message is tried again, and when it is not."""

from datetime import timedelta

LEASE = timedelta(seconds=60)  # of one attempt: after it, another process may try
SEND_SECONDS = 10.0  # one attempt may take
WAITS = (5, 15, 60, 300, 900, 1800, 3600)  # seconds after the first failure, the second, …
MOST_ATTEMPTS = len(WAITS) + 1
PERMANENT = frozenset({404, 410})  # the receiver is gone for good


def wait_after(attempts: int) -> timedelta | None:
    """How long to wait after so many failed attempts; None: no more of them."""
    return timedelta(seconds=WAITS[attempts - 1]) if attempts < MOST_ATTEMPTS else None
