"""A dead letter: as it is captured, as it travels, and as the handler of a redrive gets it.

Whatever must not leave the process is blanked here, before the first byte is kept anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import traceback
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

REASONS = frozenset(
    {
        "retries_exhausted",
        "rejected",
        "expired",
        "maxlen",
        "delivery_limit",
        "timeout",
        "worker_lost",
        "breaker_open",
        "bulkhead_full",
        "degraded",
        "deserialization",
        "schema",
        "manual",
    }
)
REDACTED = "<redacted>"
OMITTED = "holdfast-body-omitted"  # headers that say what became of the body
REDACTED_PATHS = "holdfast-redacted"
MOST_RECORD_BYTES = 6 * 1024 * 1024  # the server takes 8 MiB at a time
JSON = "application/json"
_TEXT = "text/plain"
_BINARY = "application/octet-stream"
_LONGEST = 200  # characters of keys and names
_LONGEST_MESSAGE = 10_000
_LONGEST_STACK = 64_000
_MOST_HEADERS = 190
_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token"}
)


class Unserialisable(Exception):
    """The body is nothing that can be kept as bytes."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter that is to be tried again, as a function given to `redrives` gets it.

    Attributes:
        id: Of the letter in Holdfast.
        body: What was captured: objects and lists from JSON, else str or bytes.
        idempotency_key: The same at every redrive. A letter can arrive twice, when a process dies
            between doing the work and saying so: whatever must happen once is to be keyed by it.
        redrive_count: How often it was redriven before.
        redacted: Paths whose values were blanked when it was captured.
    """

    id: int
    handler: str
    body: Any
    content_type: str = JSON
    idempotency_key: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    redrive_count: int = 0

    @property
    def redacted(self) -> tuple[str, ...]:
        return tuple(filter(None, self.headers.get(REDACTED_PATHS, "").split(" ")))


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What of a body may leave the process.

    Attributes:
        redact: Paths such as "card.number", "items.*.token" or "headers.x-session"; a leading
            "body." may be there or not.
    """

    max_body_bytes: int = 1_048_576
    redact: tuple[str, ...] = ()


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """What failed, to be made a letter of.

    Attributes:
        failed_at, first_failed_at: UTC timestamps.
    """

    handler: str
    body: Any
    content_type: str | None = None
    reason: str = "manual"
    error: BaseException | None = None
    dependency: str | None = None
    attempts: int = 1
    failed_at: float
    first_failed_at: float | None = None
    idempotency_key: str | None = None
    dedup_key: str | None = None
    correlation_id: str | None = None
    headers: Mapping[str, object] = msgspec.field(default_factory=dict)
    fingerprint: str | None = None
    revision: int | None = None

    def check(self) -> None:
        """Raises ValueError for what an author must have meant otherwise."""
        if not 0 < len(self.handler) <= _LONGEST:
            raise ValueError(f"the handler's name must have 1 to {_LONGEST} characters")
        if self.reason not in REASONS:
            raise ValueError(f"no reason {self.reason!r}: use {', '.join(sorted(REASONS))}")


def encode(capture: Capture, limits: Limits) -> bytes:
    """The letter as it is kept and sent, without what must not leave.

    Raises:
        Unserialisable: the body cannot be written down.
    """
    headers, redacted = _headers(capture.headers, limits)
    body, paths, omitted = _body(capture, limits)
    redacted += paths
    if omitted:
        headers[OMITTED] = omitted
    if redacted:
        headers[REDACTED_PATHS] = " ".join(redacted)
    record = msgspec.json.encode(_item(capture, headers, body, redacted))
    if len(record) <= MOST_RECORD_BYTES:
        return record
    headers[OMITTED] = "larger than a batch may be"
    body = _written(b"", capture.content_type or JSON)
    return msgspec.json.encode(_item(capture, headers, body, redacted))


def decode_body(body: Mapping[str, Any]) -> Any:
    """What a handler gets: objects of JSON, text, or bytes."""
    data, kind = str(body.get("data", "")), str(body.get("content_type", ""))
    is_base64 = body.get("encoding") == "base64"
    content = base64.b64decode(data, validate=True) if is_base64 else data.encode()
    if _is_json(kind):
        return msgspec.json.decode(content)
    return content.decode("utf-8", "surrogatepass") if kind.startswith("text/") else content


def describe(error: BaseException | None, reason: str) -> dict[str, str]:
    """An exception as letters and outcomes carry it."""
    if error is None:
        return {"class": reason, "message": "", "stack": ""}
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return {
        "class": clean(f"{module}{kind.__qualname__}")[:_LONGEST],
        "message": clean(_said(error))[:_LONGEST_MESSAGE],
        "stack": clean("".join(traceback.format_exception(error)))[-_LONGEST_STACK:],
    }


def clean(text: str) -> str:
    """Text that can be sent and stored: no NUL, no half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:  # noqa: BLE001 - an exception of the service's own making
        return f"<str() of it raised {type(problem).__name__}>"


def _item(
    capture: Capture, headers: dict[str, str], body: dict[str, str], redacted: Sequence[str]
) -> dict[str, Any]:
    idempotency_key = _key(capture.idempotency_key) or uuid.uuid4().hex
    item: dict[str, Any] = {
        "dedup_key": _key(capture.dedup_key) or _digest(capture.handler, idempotency_key),
        "handler": clean(capture.handler),
        "reason": capture.reason,
        "error": describe(capture.error, capture.reason),
        "attempts": max(1, capture.attempts),
        "first_failed_at": _instant(capture.first_failed_at or capture.failed_at),
        "last_failed_at": _instant(capture.failed_at),
        "idempotency_key": idempotency_key,
        "headers": headers,
        "body": body,
        "redacted": list(redacted)[:_LONGEST],
    }
    others = {
        "dependency": capture.dependency,
        "correlation_id": capture.correlation_id,
        "fingerprint": capture.fingerprint,
    }
    item |= {name: clean(str(text))[:_LONGEST] for name, text in others.items() if text}
    return item if capture.revision is None else item | {"revision": capture.revision}


def _key(text: str | None) -> str:
    """A key as it is sent; one that is too long is represented by its digest."""
    cleaned = clean(str(text)) if text else ""
    return cleaned if len(cleaned) <= _LONGEST else _digest(cleaned)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def _instant(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="microseconds")


def _headers(given: Mapping[str, object], limits: Limits) -> tuple[dict[str, str], list[str]]:
    hidden = {
        path.removeprefix("headers.").lower()
        for path in limits.redact
        if path.startswith("headers.")
    } | _SECRET_HEADERS
    kept, redacted = {}, []
    for name, value in list(given.items())[:_MOST_HEADERS]:
        cleaned = clean(str(name))[:_LONGEST]
        if cleaned.lower() in hidden:
            redacted.append(f"headers.{cleaned}")
            value = REDACTED
        kept[cleaned] = clean(str(value))
    return kept, redacted


def _body(capture: Capture, limits: Limits) -> tuple[dict[str, str], list[str], str]:
    """The body as it is sent, what was blanked in it, and why it is left out if it is."""
    content, kind = _bytes_of(capture.body, capture.content_type)
    paths = [path for path in limits.redact if not path.startswith("headers.")]
    redacted: list[str] = []
    omitted = ""
    if paths:
        try:
            content, redacted = _without(content, kind, paths)
        except (ValueError, RecursionError):
            omitted = "not JSON, so nothing in it could be redacted"
    if not omitted and len(content) > limits.max_body_bytes:
        omitted = f"{len(content)} bytes, more than {limits.max_body_bytes}"
    return _written(b"" if omitted else content, kind), redacted, omitted


def _bytes_of(body: Any, content_type: str | None) -> tuple[bytes, str]:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body), content_type or _BINARY
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass"), content_type or _TEXT
    try:
        return msgspec.json.encode(body), content_type or JSON
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unserialisable(f"{type(error).__name__}: {error}") from None


def _written(content: bytes, kind: str) -> dict[str, str]:
    """Text where people can read it, base64 where text cannot be kept."""
    kind = clean(kind)[:_LONGEST]
    if b"\0" not in content and (_is_json(kind) or kind.startswith("text/")):
        try:
            return {"encoding": "utf-8", "content_type": kind, "data": content.decode()}
        except UnicodeDecodeError:
            pass  # said to be text, and is none: kept as it is
    data = base64.b64encode(content).decode()
    return {"encoding": "base64", "content_type": kind, "data": data}


def _is_json(kind: str) -> bool:
    return kind.partition(";")[0].strip().lower().endswith(("/json", "+json"))


def _without(content: bytes, kind: str, paths: Iterable[str]) -> tuple[bytes, list[str]]:
    """The body with what is at the paths blanked, and the paths at which something was.

    Raises:
        ValueError: it is not JSON.
    """
    if not _is_json(kind):
        raise ValueError("no JSON")
    value = msgspec.json.decode(content)
    found = []
    for path in paths:
        path = path.removeprefix("body.")
        is_there, value = _blanked(value, path.split("."))
        if is_there:
            found.append(f"body.{path}"[:_LONGEST])
    return (msgspec.json.encode(value), found) if found else (content, found)


def _blanked(value: Any, path: Sequence[str]) -> tuple[bool, Any]:
    """Whether there is something at `path`, and the value with it blanked; * is every member."""
    if not path:
        return True, REDACTED
    first, rest = path[0], path[1:]
    if isinstance(value, dict):
        inner = {name: _blanked(each, rest) for name, each in value.items() if first in (name, "*")}
        there = {name: new for name, (is_there, new) in inner.items() if is_there}
        return bool(there), value | there
    if isinstance(value, list):
        each = [
            _blanked(item, rest) if first in (str(index), "*") else (False, item)
            for index, item in enumerate(value)
        ]
        return any(is_there for is_there, _ in each), [new for _, new in each]
    return False, value
