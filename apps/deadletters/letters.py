"""A batch of dead letters as it travels: read item by item, so that a bad one is refused alone."""

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from django.utils.translation import gettext as _
from msgspec import Meta, Struct

from apps.core.errors import RuleBroken

MOST_ITEMS = 100
Key = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=200)]
Instant = Annotated[datetime, Meta(tz=True)]
Errors = dict[str, list[str]]
# Refused beside a date that databases could not hold, or that is no clock's.
EARLIEST, LATEST = 2000, 2200
KINDS = Literal[
    "retries_exhausted", "rejected", "expired", "maxlen", "delivery_limit", "timeout",
    "worker_lost", "breaker_open", "bulkhead_full", "degraded", "deserialization", "schema",
    "manual",
]  # fmt: skip


class Failure(Struct, frozen=True):
    """What was raised, in words; what is longer is cut."""

    class_: Key = msgspec.field(name="class")
    message: str = ""
    stack: str = ""


class Body(Struct, frozen=True):
    encoding: Literal["utf-8", "base64"] = "utf-8"
    content_type: Text = ""
    data: str = ""

    def content(self) -> bytes:
        """Its bytes; raises ValueError if it is not what its encoding says."""
        if self.encoding == "base64":
            return base64.b64decode(self.data, validate=True)
        return self.data.encode()


class Item(Struct, frozen=True):
    """One dead letter. Members not listed are ignored: services may be newer than the server."""

    dedup_key: Key
    handler: Key
    reason: KINDS
    error: Failure
    attempts: Annotated[int, Meta(ge=1, lt=2**31)]
    first_failed_at: Instant
    last_failed_at: Instant
    dependency: Annotated[str, Meta(max_length=80)] | None = None
    idempotency_key: Text | None = None
    headers: Annotated[dict[str, str], Meta(max_length=200)] = {}
    body: Body = Body()
    fingerprint: Key | None = None
    revision: Annotated[int, Meta(ge=0, lt=2**53)] | None = None
    correlation_id: Text | None = None
    redacted: Annotated[list[Text], Meta(max_length=200)] = []


class Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    items: list[msgspec.Raw]
    service: Annotated[str, Meta(min_length=1, max_length=80)] | None = None


class Batch(Struct, frozen=True):
    """The items of an envelope: each read, or the errors with which it is refused."""

    service: str | None
    items: list[Item | Errors]


_envelope = msgspec.json.Decoder(Envelope)
_item = msgspec.json.Decoder(Item)


def read(body: bytes) -> Batch:
    """The batch that `body` is.

    Raises:
        RuleBroken: the envelope is wrong: no JSON, no list of items, too many of them.
    """
    service, pieces = _opened(body)
    if len(pieces) > MOST_ITEMS:
        text = _("At most %(most)d items.") % {"most": MOST_ITEMS}
        raise _refusal("items", text)
    return Batch(service, [_read_item(piece) for piece in pieces])


def _opened(body: bytes) -> tuple[str | None, list[bytes]]:
    try:
        envelope = _envelope.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # One item that is no JSON, or nested too deep, must not cost its neighbours.
        if (parts := split(body)) is not None:
            return parts
        what, _at, path = str(error).partition(" - at `$")
        unknown = _UNKNOWN.search(what)
        raise _refusal(unknown[1] if unknown else path.rstrip("`").lstrip("."), what) from error
    return envelope.service, [bytes(raw) for raw in envelope.items]


_UNKNOWN = re.compile(r"unknown field `([^`]{1,200})`")
_SERVICE = rb'"service"\s*:\s*"([a-z0-9._-]{1,80})"\s*'
_HEAD = re.compile(rb'\s*\{\s*(?:%s,\s*)?"items"\s*:\s*\[' % _SERVICE)
_TAIL = re.compile(rb"\s*(?:,\s*%s)?\}\s*" % _SERVICE)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|["\[\]{},]', re.DOTALL)


def split(body: bytes) -> tuple[str | None, list[bytes]] | None:
    """Service, and texts of the items, of an envelope by its brackets alone; None if it is none.

    In one pass and without recursion, whatever is between the brackets. It stops when there are
    more items than a batch may have.
    """
    head = _HEAD.match(body)
    if head is None:
        return None
    pieces, start = [], head.end()
    for at in _ends(body, start):
        pieces.append(body[start:at].strip())
        start = at + 1
        if len(pieces) > MOST_ITEMS:
            return None, pieces
    tail = _TAIL.fullmatch(body, start) if body[start - 1 : start] == b"]" else None
    if tail is None or not pieces:
        return None
    service = head[1] or tail[1]
    return service.decode() if service else None, pieces


def _ends(body: bytes, start: int) -> Iterator[int]:
    """Where each item ends; fewer than there are if a text in one has no end."""
    depth = 0
    for token in _TOKEN.finditer(body, start):
        mark = token.group()
        if mark == b'"':
            return
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            if depth == 0:
                yield token.start()
                return
            depth -= 1
        elif mark == b"," and depth == 0:
            yield token.start()


def _read_item(piece: bytes) -> Item | Errors:
    try:
        item = _item.decode(piece)
    except msgspec.ValidationError as error:
        what, _at, path = str(error).partition(" - at `$")
        return {path.rstrip("`").lstrip(".") or "item": [what]}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return {"item": [_("This is not valid JSON: %(why)s") % {"why": error}]}
    except RecursionError:
        return {"item": [_("It is nested too deep.")]}
    return _errors(item) or item


def _errors(item: Item) -> Errors:
    """What types cannot say."""
    found: Errors = {}
    try:
        item.body.content()
    except (ValueError, binascii.Error) as error:
        found["body.data"] = [_("This is not base64: %(why)s") % {"why": error}]
    if item.first_failed_at > item.last_failed_at:
        found["first_failed_at"] = [_("This is after last_failed_at.")]
    for name in ("first_failed_at", "last_failed_at"):
        if not EARLIEST <= getattr(item, name).year <= LATEST:
            found[name] = [_("This is no time at which it can have failed.")]
    for path in _with_nul(msgspec.to_builtins(item, builtin_types=(datetime,))):
        text = _("A NUL character cannot be kept as text. Send such a body as base64.")
        found[path] = [text]
    return found


def _with_nul(value: Any, path: str = "") -> Iterator[str]:
    """Paths of texts with a NUL character in them."""
    if isinstance(value, str):
        if "\0" in value:
            yield path
    elif isinstance(value, dict):
        for name, inner in value.items():
            shown = name.replace("\0", "\ufffd")
            here = f"{path}.{shown}" if path else shown
            if "\0" in name:
                yield here
            yield from _with_nul(inner, here)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _with_nul(inner, f"{path}[{index}]")


def _refusal(path: str, text: str) -> RuleBroken:
    return RuleBroken(
        _("The batch is not what the contract says."), errors={path or "body": [text]}
    )


def schema() -> dict[str, Any]:
    """JSON Schema of a batch, with everything in one piece."""
    (item,), parts = msgspec.json.schema_components([Item], ref_template="{name}")
    return {
        "type": "object",
        "required": ["items"],
        "additionalProperties": False,
        "properties": {
            "service": {
                "description": "For tokens that are bound to no service.",
                "type": ["string", "null"],
                "minLength": 1,
                "maxLength": 80,
            },
            "items": {"type": "array", "maxItems": MOST_ITEMS, "items": _inlined(item, parts)},
        },
    }


def _inlined(node: Any, parts: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(inner, parts) for inner in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(parts[node["$ref"]], parts)
    return {name: _inlined(inner, parts) for name, inner in node.items()}
