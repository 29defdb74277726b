"""Writing to the audit log. `record` is called last inside every change's transaction."""

import uuid
from datetime import datetime
from typing import Any, Protocol

from django.db import connection, transaction
from django.db.models import F

from apps.audit import rules
from apps.audit.models import Chain, Entry
from apps.core import clock
from apps.core.actor import Actor


class Audited(Protocol):
    """A thing that can be the object of an entry."""

    pk: Any

    def __str__(self) -> str: ...


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
    return _append(
        environment_id,
        {
            "action": action,
            "object_type": type(obj).__name__.lower(),
            "object_id": str(obj.pk),
            "object_label": str(obj)[:200],
            "reason": reason,
            "outcome": Entry.Outcome.OK.value,
            "revision": revision,
            "before": _plain(before),
            "after": _plain(after),
        },
        actor,
    )


def record_denial(action: str, *, actor: Actor, environment_id: int | None, detail: str) -> Entry:
    """Append what was refused, in a transaction of its own: the refused change is rolled back."""
    action = action.replace("\0", "\ufffd")  # of an address; no column can hold it
    with transaction.atomic():
        return _append(
            environment_id,
            {
                "action": action[:60],
                "object_type": "request",
                "object_id": actor.request_id,
                "object_label": action[:200],
                "reason": detail[:500],
                "outcome": Entry.Outcome.DENIED.value,
                "revision": None,
                "before": None,
                "after": None,
            },
            actor,
        )


def _append(environment_id: int | None, content: dict[str, Any], actor: Actor) -> Entry:
    if not connection.in_atomic_block:
        raise RuntimeError("audit entries are written inside the change's transaction")
    chain = _next(environment_id)
    entry_id = uuid.uuid4()
    at = clock.now()
    content |= {
        "id": str(entry_id),
        "chain": str(chain),
        "sequence": chain.sequence,
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
    entry = Entry.objects.create(
        id=entry_id,
        chain=chain,
        sequence=chain.sequence,
        at=at,
        text=text,
        hash=rules.hash_of(text),
        **{name: content[name] for name in rules.REPEATED},
    )
    Chain.objects.filter(pk=chain.pk).update(head=entry.hash)
    return entry


def _next(environment_id: int | None) -> Chain:
    """Take the chain's next sequence number; the UPDATE locks its row until the commit."""
    name = "system" if environment_id is None else f"environment {environment_id}"
    mine = Chain.objects.filter(name=name)
    if not mine.update(sequence=F("sequence") + 1):
        Chain.objects.get_or_create(name=name, defaults={"environment_id": environment_id})
        mine.update(sequence=F("sequence") + 1)
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
