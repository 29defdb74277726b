"""Writing to the audit log. `record` is called last inside every change's transaction."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import structlog
from django.db import connection, transaction
from django.db.models import F

from apps.audit import bounds, rules
from apps.audit.models import Chain, Entry
from apps.core import clock
from apps.core.actor import Actor

log = structlog.get_logger(__name__)


class Audited(Protocol):
    """A thing that can be the object of an entry."""

    pk: Any

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Change:
    """One thing that a change did: to what, from what, to what."""

    action: str
    obj: Audited
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


def record(
    action: str,
    obj: Audited,
    *,
    actor: Actor,
    environment_id: int | None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reason: str = "",
    revision: int | None = None,
) -> Entry:
    """Append an entry about `obj` to its environment's chain (None: the system's).

    Must run inside the change's transaction and be its last write: the chain's head is locked
    from here to the commit, in the lock order rows → revision → chain.
    """
    change = Change(action, obj, before, after)
    return record_many(
        [change], actor=actor, environment_id=environment_id, reason=reason, revision=revision
    )[0]


def record_many(
    changes: Sequence[Change],
    *,
    actor: Actor,
    environment_id: int | None,
    reason: str = "",
    revision: int | None = None,
) -> list[Entry]:
    """`record` for everything that one change did, in this order; the head is taken once."""
    contents = [_content(change, reason, revision) for change in changes]
    return _append(environment_id, contents, actor)


def _content(change: Change, reason: str, revision: int | None) -> dict[str, Any]:
    return {
        "action": change.action,
        "object_type": type(change.obj).__name__.lower(),
        "object_id": str(change.obj.pk),
        "object_label": str(change.obj)[:200],
        "reason": reason,
        "outcome": Entry.Outcome.OK.value,
        "revision": revision,
        "before": _plain(change.before),
        "after": _plain(change.after),
    }


def note_denial(
    actor: Actor, action: str, detail: str, *, environment_id: int | None = None
) -> None:
    """Append what was refused, in a transaction of its own: the refused change is rolled back.

    To the chain of the environment it was about; of the actor's only one, where that is not
    known; else to the system's. Of an actor that is refused again and again the rest of a minute
    is only logged.
    """
    if not bounds.current.take(actor, time.monotonic()):
        log.warning("denial.not_audited", actor_kind=actor.kind, actor_id=actor.id)
        return
    if environment_id is None and len(actor.environment_ids) == 1:
        environment_id = actor.environment_id
    action = action.replace("\0", "\ufffd")  # of an address; no column can hold it
    content = {
        "action": action[:60],
        "object_type": "request",
        "object_id": actor.request_id,
        "object_label": action[:200],
        "reason": detail[:500],
        "outcome": Entry.Outcome.DENIED.value,
        "revision": None,
        "before": None,
        "after": None,
    }
    with transaction.atomic():
        _append(environment_id, [content], actor)


def _append(
    environment_id: int | None, contents: Sequence[dict[str, Any]], actor: Actor
) -> list[Entry]:
    if not connection.in_atomic_block:
        raise RuntimeError("audit entries are written inside the change's transaction")
    if not contents:
        return []
    chain = _take(environment_id, len(contents))
    chain.sequence -= len(contents)  # before the first of them
    entries = []
    for content in contents:
        entries.append(_next(chain, content, actor))
        chain.sequence, chain.head = entries[-1].sequence, entries[-1].hash
    Entry.objects.bulk_create(entries)
    Chain.objects.filter(pk=chain.pk).update(head=chain.head)
    return entries


def _next(chain: Chain, content: dict[str, Any], actor: Actor) -> Entry:
    """The entry that follows `chain.sequence` and `chain.head`."""
    entry_id = uuid.uuid4()
    at = clock.now()
    content = content | {
        "id": str(entry_id),
        "chain": str(chain),
        "sequence": chain.sequence + 1,
        "previous": chain.head,
        "at": at.isoformat(),
        "actor_kind": actor.kind,
        "actor_id": actor.id,
        "actor_label": actor.label[:150],
        "source": actor.source,
        "address": actor.address,
        "request_id": actor.request_id[:64],
    }
    text = rules.canonical(content)
    return Entry(
        id=entry_id,
        chain=chain,
        sequence=chain.sequence + 1,
        at=at,
        text=text,
        hash=rules.hash_of(text),
        **{name: content[name] for name in rules.REPEATED},
    )


def _take(environment_id: int | None, count: int) -> Chain:
    """Take the chain's next `count` numbers; the UPDATE locks its row until the commit."""
    name = "system" if environment_id is None else f"environment {environment_id}"
    mine = Chain.objects.filter(name=name)
    if not mine.update(sequence=F("sequence") + count):
        Chain.objects.get_or_create(name=name, defaults={"environment_id": environment_id})
        mine.update(sequence=F("sequence") + count)
    return mine.get()


def _plain(values: dict[str, Any] | None) -> dict[str, Any] | None:
    """Values as JSON holds them: instants as ISO 8601, identifiers as text."""
    if values is None:
        return None
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    return value
