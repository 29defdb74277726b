"""Steps the changes share; they open no transaction of their own.

Rows are locked in one order: items of redrives, letters, groups, redrives, the audit chain; within
a table by primary key.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db.models import F, QuerySet

from apps.audit import services as audit
from apps.core import bus, clock
from apps.core.actor import Actor, automation
from apps.core.db import swap
from apps.deadletters import rules
from apps.deadletters.models import DeadLetter, Group, Redrive

MOST_AT_ONCE = 10_000  # letters of one change
BATCH = 500  # rows of one statement
UNREAD = ("body", "headers", "error_stack", "error_message")  # of letters that only change state


def locked(letters: QuerySet[Any]) -> list[DeadLetter]:
    """The letters, the oldest 10,000 at most, locked until the commit.

    On SQLite the transaction itself is the lock.
    """
    rows = letters.order_by("pk").select_for_update().defer(*UNREAD)
    return list(rows[:MOST_AT_ONCE])


def batched(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    """The keys in pieces that a statement can name."""
    return (keys[first : first + BATCH] for first in range(0, len(keys), BATCH))


def move(letters: Iterable[DeadLetter], status: str, **changes: Any) -> None:
    """Give locked letters a status, and keep the counts of their groups right."""
    moved = list(letters)
    changes |= {"status": status, "status_changed_at": clock.now()}
    for some in batched([letter.pk for letter in moved]):
        DeadLetter.objects.filter(pk__in=some).update(version=F("version") + 1, **changes)
    is_open = status in rules.UNRESOLVED
    deltas: Counter[int] = Counter()
    for letter in moved:
        deltas[letter.group_id] += is_open - letter.is_unresolved
        letter.version += 1
        for name, value in changes.items():
            setattr(letter, name, value)
    count_in_groups({}, deltas)


def count_in_groups(letters: Mapping[int, int], unresolved: Mapping[int, int]) -> None:
    """Add to the numbers of groups, by their keys."""
    for group_id in sorted({*letters, *unresolved}):
        added, opened = letters.get(group_id, 0), unresolved.get(group_id, 0)
        if added or opened:
            Group.objects.filter(pk=group_id).update(
                letters=F("letters") + added, unresolved=F("unresolved") + opened
            )


def count_in_redrives(deltas: Mapping[int, Mapping[str, int]]) -> None:
    """Add to the numbers of redrives, by their keys; those with nothing left to do are over.

    Their version stays: it is for what people change.
    """
    for redrive_id in sorted(deltas):
        added = {name: F(name) + number for name, number in deltas[redrive_id].items() if number}
        if added:
            Redrive.objects.filter(pk=redrive_id).update(**added)
    for redrive_id in sorted(deltas):
        _finish(redrive_id)


def _finish(redrive_id: int) -> None:
    """Note that a redrive is over, if every item of it has an outcome."""
    over = Redrive.objects.filter(pk=redrive_id, pending=0, claimed=0, ended_at=None)
    if not over.update(ended_at=clock.now()):
        return
    redrive = Redrive.objects.get(pk=redrive_id)
    if redrive.state != Redrive.State.CANCELLED:
        swap(redrive, state=Redrive.State.DONE)
        actor = automation("redrive", redrive.environment_id)
        record("redrive.finished", redrive, actor, after=redrive.as_audited())


def announce(environment_id: int) -> None:
    """Tell whoever shows or judges dead letters that they changed."""
    bus.announce("deadletters", environment_id=environment_id)


def record(
    action: str,
    row: DeadLetter | Group | Redrive,
    actor: Actor,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reason: str = "",
) -> None:
    """Audit, last in the change."""
    audit.record(
        action,
        row,
        actor=actor,
        environment_id=row.environment_id,
        before=before,
        after=after,
        reason=reason,
    )
