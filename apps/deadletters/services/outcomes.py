"""What workers say became of the letters they had; each is confirmed once."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from uuid import UUID

from django.db import transaction

from apps.core import clock
from apps.deadletters import rules
from apps.deadletters.models import Claim, DeadLetter, LetterStatus, RedriveItem
from apps.deadletters.services import writing
from apps.deadletters.services.work import end_claims, give_back
from apps.fleet.models import Service

Verdict = Literal["accepted", "late", "unknown"]
Key = tuple[int, UUID]  # letter and token
ACTIVE = (RedriveItem.State.PENDING, RedriveItem.State.CLAIMED)
LONGEST_ERROR = 10_000  # characters


@dataclass(frozen=True)
class Outcome:
    """What a worker says of a letter it claimed."""

    letter_id: int
    claim: UUID
    outcome: Literal["resolved", "refailed", "released", "extend"]
    error: str = ""
    duration_seconds: float | None = None

    @property
    def key(self) -> Key:
        return self.letter_id, self.claim


@dataclass
class _Changes:
    """What a batch of outcomes changes, gathered to be written at once."""

    ended: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # claims
    items: list[RedriveItem] = field(default_factory=list)
    released: list[RedriveItem] = field(default_factory=list)
    resolved: set[int] = field(default_factory=set)  # letters
    refailed: set[int] = field(default_factory=set)
    failed_since: set[int] = field(default_factory=set)  # resolved, and failed anew
    counts: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def end(self, claim: Claim, outcome: str) -> None:
        claim.outcome, claim.ended_at = outcome, clock.now()
        self.ended[outcome].append(claim.pk)

    def close(self, item: RedriveItem, state: str, told: Outcome) -> None:
        """An active item has its outcome."""
        self.counts[item.redrive_id][item.state] -= 1
        self.counts[item.redrive_id][state] += 1
        item.state, item.ended_at = state, clock.now()
        item.error, item.duration_seconds = told.error[:LONGEST_ERROR], told.duration_seconds
        self.items.append(item)


@transaction.atomic
def settle(service: Service, outcomes: Sequence[Outcome]) -> list[Verdict]:
    """Write down what became of claimed letters; one verdict each, in their order.

    `accepted`: it counts, or counted before. `late`: the lease was over, or the letter had its
    outcome; what was resolved is resolved all the same, anything else changes nothing. `unknown`:
    the service never had this claim. Safe to repeat and to run in parallel.
    """
    known = _known(service, outcomes)
    letters = sorted({claim.item.letter_id for claim in known.values()})
    active = _locked_items(letters)
    known = _known(service, outcomes)  # again, now that nobody else changes them
    changes = _Changes()
    locked = {row.pk: row for row in writing.locked(DeadLetter.objects.filter(pk__in=letters))}
    verdicts = [_settle(told, known.get(told.key), active, locked, changes) for told in outcomes]
    _write(changes, locked)
    if changes.items or changes.released:
        writing.announce(service.environment_id)
    return verdicts


def _known(service: Service, outcomes: Sequence[Outcome]) -> dict[Key, Claim]:
    rows = Claim.objects.filter(
        token__in={told.claim for told in outcomes},
        item__letter__in={told.letter_id for told in outcomes},
        item__service=service,
    )
    return {(row.item.letter_id, row.token): row for row in rows.select_related("item")}


def _locked_items(letters: Sequence[int]) -> dict[int, RedriveItem]:
    """The active items of the letters, by letter; every item of theirs is locked."""
    rows = RedriveItem.objects.filter(letter__in=letters).select_related("redrive")
    found = list(rows.order_by("pk").select_for_update(of=("self",)))
    return {item.letter_id: item for item in found if item.state in ACTIVE}


def _settle(
    told: Outcome,
    claim: Claim | None,
    active: Mapping[int, RedriveItem],
    letters: Mapping[int, DeadLetter],
    changes: _Changes,
) -> Verdict:
    if claim is None:
        return "unknown"
    if claim.ended_at is None:
        _apply(told, claim, active[told.letter_id], letters[told.letter_id], changes)
        return "accepted"
    if claim.outcome == told.outcome:
        return "accepted"  # said before; the answer was lost
    if told.outcome == "resolved":
        _resolve_late(told, claim, active, letters[told.letter_id], changes)
    return "late"


def _apply(
    told: Outcome, claim: Claim, item: RedriveItem, letter: DeadLetter, changes: _Changes
) -> None:
    if told.outcome == "extend":
        until = clock.now() + timedelta(seconds=claim.lease_seconds)
        Claim.objects.filter(pk=claim.pk).update(expires_at=until)
        return
    changes.end(claim, told.outcome)
    if told.outcome == "released":
        changes.released.append(item)
    elif told.outcome == "resolved":
        changes.close(item, RedriveItem.State.RESOLVED, told)
        has_failed_since = letter.captured_at > claim.claimed_at
        (changes.failed_since if has_failed_since else changes.resolved).add(told.letter_id)
    else:
        changes.close(item, RedriveItem.State.REFAILED, told)
        changes.refailed.add(told.letter_id)


def _resolve_late(
    told: Outcome,
    claim: Claim,
    active: Mapping[int, RedriveItem],
    letter: DeadLetter,
    changes: _Changes,
) -> None:
    """What was done is done, whoever has the letter by now; not what failed after the claim."""
    if not letter.is_unresolved or letter.captured_at > claim.claimed_at:
        return
    changes.resolved.add(letter.pk)
    changes.refailed.discard(letter.pk)
    item = active.get(letter.pk)
    if item is not None and item.state in ACTIVE:
        if item in changes.released:
            changes.released.remove(item)
        for other in Claim.objects.filter(item=item, ended_at=None):
            changes.end(other, Claim.Outcome.OVERTAKEN)
        changes.close(item, RedriveItem.State.RESOLVED, told)


def _write(changes: _Changes, letters: Mapping[int, DeadLetter]) -> None:
    for outcome, claims in changes.ended.items():
        end_claims(claims, outcome)
    RedriveItem.objects.bulk_update(
        changes.items, ["state", "error", "duration_seconds", "ended_at"]
    )
    writing.move(
        [letters[key] for key in sorted(changes.resolved)], LetterStatus.RESOLVED, redrive_count=0
    )
    writing.move([letters[key] for key in sorted(changes.failed_since)], LetterStatus.NEW)
    _refail([letters[key] for key in sorted(changes.refailed)])
    # Sums of the batch first, so that no redrive is over before all of its items are counted.
    writing.count_in_redrives(changes.counts)
    give_back(changes.released)


def _refail(letters: Sequence[DeadLetter]) -> None:
    """Each failed once more; the third time in a row only somebody who chooses it redrives it."""
    for count in sorted({letter.redrive_count + 1 for letter in letters}):
        alike = [letter for letter in letters if letter.redrive_count + 1 == count]
        writing.move(alike, rules.after_refailure(count), redrive_count=count)
