"""The events of a stream as bytes: server-sent events, each on one data line.

Source: WHATWG HTML, "Server-sent events".
"""

from datetime import datetime
from typing import Any

import msgspec

from apps.core import clock
from apps.core.pace import Pace
from apps.delivery.rules import Document, canonical

RETRY_MILLISECONDS = 2_000
COMMENT = b":\n\n"


def hello(epoch: str, pace: Pace, now: datetime) -> bytes:
    """The first event: how long to wait before reconnecting, the server's clock, the pace."""
    data = {
        "epoch": epoch,
        "server_time": clock.rfc3339(now, timespec="milliseconds"),
        "poll_seconds": pace.poll_seconds,
        "report_seconds": pace.report_seconds,
    }
    return b"retry: %d\n" % RETRY_MILLISECONDS + _event("hello", data)


def document(newest: Document) -> bytes:
    """The whole document."""
    return _event("document", msgspec.Raw(newest.body), newest.event_id)


def changed(base: Document, newest: Document, now: datetime) -> bytes:
    """What leads from `base` to `newest`: each part that differs, whole.

    Between epochs, and backwards, no change leads: that is the whole document.
    """
    if base.epoch != newest.epoch or base.revision >= newest.revision:
        return document(newest)
    parts = {}
    if base.flags != newest.flags:
        parts["flags"] = msgspec.Raw(newest.flags)
    if base.dependencies != newest.dependencies:
        parts["dependencies"] = msgspec.Raw(newest.dependencies)
    data = {
        "base": base.revision,
        "revision": newest.revision,
        "etag": newest.etag,
        "server_time": clock.rfc3339(now, timespec="milliseconds"),
        "published_at": newest.published_at,
        "changed": parts,
    }
    return _event("changed", data, newest.event_id)


def goodbye(reason: str, retry_after_seconds: float) -> bytes:
    """The last event: draining, revoked or max_age, and when to come back."""
    return _event("goodbye", {"reason": reason, "retry_after_seconds": retry_after_seconds})


def _event(name: str, data: Any, event_id: str = "") -> bytes:
    head = f"event: {name}\n" + (f"id: {event_id}\n" if event_id else "")
    return b"".join([head.encode(), b"data: ", canonical(data), b"\n\n"])
