"""Handing letters out to the services that gave them up, and taking back what nobody finished."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.db import transaction

from apps.core import bus, clock
from apps.deadletters.models import Claim, DeadLetter, LetterStatus, Redrive, RedriveItem
from apps.deadletters.services import writing
from apps.deadletters.services.redrives import skip
from apps.fleet.models import Service


@dataclass(frozen=True)
class Work:
    """A letter one worker has until its lease is over."""

    letter: DeadLetter
    claim: UUID
    expires_at: datetime


@transaction.atomic
def claim(service: Service, handlers: Sequence[str], *, limit: int, lease: timedelta) -> list[Work]:
    """Up to `limit` letters of running redrives for these handlers, oldest first.

    Nobody else gets them until `lease` is over. Safe to run in parallel: items are locked before
    they are taken (on SQLite the transaction is the lock), and the database allows one active
    claim of an item.
    """
    items = _take(service, handlers, limit)
    if not items:
        return []
    now, token = clock.now(), uuid4()
    Claim.objects.bulk_create(
        Claim(
            item=item,
            token=token,
            claimed_at=now,
            lease_seconds=int(lease.total_seconds()),
            expires_at=now + lease,
        )
        for item in items
    )
    wanted = DeadLetter.objects.filter(pk__in=[item.letter_id for item in items])
    letters = list(wanted.order_by("pk").select_for_update())
    writing.move(letters, LetterStatus.REDRIVEN)
    writing.count_in_redrives(_taken(items))
    writing.announce(service.environment_id)
    return [Work(letter, token, now + lease) for letter in letters]


def _take(service: Service, handlers: Sequence[str], limit: int) -> list[RedriveItem]:
    """Waiting items, now taken and locked; those another worker has locked are passed over."""
    waiting = RedriveItem.objects.filter(
        service=service,
        handler__in=handlers,
        state=RedriveItem.State.PENDING,
        redrive__state=Redrive.State.RUNNING,
    )
    found = list(waiting.order_by("pk").select_for_update(skip_locked=True, of=("self",))[:limit])
    RedriveItem.objects.filter(
        pk__in=[item.pk for item in found], state=RedriveItem.State.PENDING
    ).update(state=RedriveItem.State.CLAIMED)
    return found


def _taken(items: Sequence[RedriveItem]) -> dict[int, Counter[str]]:
    deltas: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for item in items:
        deltas[item.redrive_id].update({"claimed": 1})
        deltas[item.redrive_id].subtract({"pending": 1})
    return deltas


def return_expired(*, limit: int = 500) -> int:
    """Take back up to `limit` items whose lease is over; returns how many.

    They wait again for a worker; those of a cancelled redrive are skipped. Safe to run twice or in
    parallel. A late outcome of theirs is still heard.
    """
    with transaction.atomic():
        due = Claim.objects.filter(ended_at=None, expires_at__lte=clock.now())
        keys = list(due.order_by("expires_at").values_list("item", flat=True)[:limit])
        rows = RedriveItem.objects.filter(pk__in=keys, state=RedriveItem.State.CLAIMED)
        items = list(rows.select_for_update(of=("self",)).select_related("redrive").order_by("pk"))
        over = Claim.objects.filter(
            item__in=items, ended_at=None, expires_at__lte=clock.now()
        )  # looked at again now that the items are locked: a lease may have been extended
        ended = dict(over.values_list("item", "pk"))
        end_claims(list(ended.values()), Claim.Outcome.EXPIRED)
        give_back([item for item in items if item.pk in ended])
    _skip_stranded(limit)
    return len(ended)


@transaction.atomic
def _skip_stranded(limit: int) -> None:
    """Skip what came back to a redrive in the instant in which it was cancelled."""
    stranded = RedriveItem.objects.filter(
        state=RedriveItem.State.PENDING, redrive__state=Redrive.State.CANCELLED
    )
    items = list(stranded.select_for_update(of=("self",)).order_by("pk")[:limit])
    if items:
        skip(items)
        writing.count_in_redrives(_counted(items, pending=-1, skipped=1))


def end_claims(keys: Sequence[int], outcome: str) -> None:
    """Note how claims ended; those that have ended stay as they are."""
    Claim.objects.filter(pk__in=keys, ended_at=None).update(outcome=outcome, ended_at=clock.now())


def give_back(items: Sequence[RedriveItem]) -> None:
    """Let locked items, claimed before, wait again; those of a cancelled redrive are skipped."""
    cancelled = [item for item in items if item.redrive.state == Redrive.State.CANCELLED]
    again = [item for item in items if item.redrive.state != Redrive.State.CANCELLED]
    RedriveItem.objects.filter(pk__in=[item.pk for item in again]).update(
        state=RedriveItem.State.PENDING
    )
    letters = DeadLetter.objects.filter(pk__in=[item.letter_id for item in again])
    writing.move(writing.locked(letters), LetterStatus.REDRIVE_PENDING)
    skip(cancelled)
    writing.count_in_redrives(
        _counted(again, claimed=-1, pending=1) | _counted(cancelled, claimed=-1, skipped=1)
    )
    for environment_id in {item.redrive.environment_id for item in items}:
        writing.announce(environment_id)
        bus.announce("redrives", environment_id=environment_id)


def _counted(items: Sequence[RedriveItem], **each: int) -> dict[int, dict[str, int]]:
    """The numbers `each` item adds to its redrive, by the redrive's key."""
    counts = Counter(item.redrive_id for item in items)
    return {
        redrive_id: {name: number * count for name, number in each.items()}
        for redrive_id, count in counts.items()
    }
