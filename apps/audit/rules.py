"""How entries are written down and chained, and how a chain is checked."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

DOMAIN = b"holdfast.audit.v1"
REPEATED = (  # columns that repeat members of the text; verification compares them
    "actor_kind",
    "actor_label",
    "action",
    "object_type",
    "object_id",
    "object_label",
    "reason",
    "outcome",
    "revision",
    "request_id",
)


class ChainedEntry(Protocol):
    """What verification reads of an entry."""

    id: Any
    sequence: int
    at: datetime
    text: str
    hash: str


@dataclass(frozen=True)
class Break:
    """The first entry at which a chain does not hold, and why."""

    sequence: int
    why: str


def canonical(content: dict[str, Any]) -> str:
    """The one way `content` is written: sorted keys, no spaces, UTF-8 kept as it is."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash_of(text: str) -> str:
    """SHA-256 over the domain and the length-prefixed text, in hex.

    The text itself holds id, sequence, chain and the previous hash, so that an entry can
    neither be moved, copied nor renumbered.
    """
    raw = text.encode()
    return hashlib.sha256(DOMAIN + len(raw).to_bytes(8, "big") + raw).hexdigest()


def breaks(
    entries: Iterable[ChainedEntry], *, chain: str, count: int, head: str
) -> Iterator[Break]:
    """Every place where the chain does not hold, in order; `entries` sorted by sequence.

    `count` and `head` are the chain's own record of how many there are and the newest hash:
    a tail that was cut off, or put on, shows there.
    """
    previous, expected = "", 1
    for entry in entries:
        yield from _entry_breaks(entry, chain, previous, expected)
        previous, expected = entry.hash, entry.sequence + 1
    if expected - 1 != count or previous != head:
        yield Break(expected, f"the chain ends at {expected - 1}, its head says {count}")


def _entry_breaks(entry: ChainedEntry, chain: str, previous: str, expected: int) -> Iterator[Break]:
    if entry.sequence != expected:
        yield Break(expected, f"entry {expected} is missing; the next is {entry.sequence}")
    if hash_of(entry.text) != entry.hash:
        yield Break(entry.sequence, "the text does not match its hash")
        return
    content = _content(entry.text)
    if content.get("previous") != previous and entry.sequence == expected:
        yield Break(entry.sequence, "it does not follow the entry before it")
    place = (content.get("chain"), content.get("sequence"), content.get("id"))
    if place != (chain, entry.sequence, str(entry.id)):
        yield Break(entry.sequence, "it was moved from another place")
    columns = {name: getattr(entry, name) for name in REPEATED} | {"at": entry.at.isoformat()}
    wrong = [name for name, value in columns.items() if content.get(name) != value]
    if wrong:
        yield Break(entry.sequence, f"columns differ from the text: {', '.join(wrong)}")


def _content(text: str) -> dict[str, Any]:
    """What the text says; nothing, if somebody put something else there and hashed that."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def changed(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[dict[str, Any]]:
    """`[{field, before, after}]` of the members that differ, sorted by field."""
    old, new = before or {}, after or {}
    return [
        {"field": field, "before": old.get(field), "after": new.get(field)}
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
    ]
