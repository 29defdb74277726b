"""Writing dead letters down: each once, whatever its neighbours are, however often it comes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID

import msgspec
import structlog
from django.db import DataError, IntegrityError, transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest, Least
from django.utils.translation import gettext as _

from apps.core import clock
from apps.deadletters import rules
from apps.deadletters.letters import Errors, Item
from apps.deadletters.models import DeadLetter, Group
from apps.deadletters.services import writing
from apps.fleet.models import Service

log = structlog.get_logger(__name__)

LONGEST_MESSAGE = 10_000  # characters; what is longer is cut
LONGEST_STACK = 65_536
MOST_ATTEMPTS = 2**31 - 1  # what the column holds
Verdict = Literal["created", "updated", "unchanged", "invalid"]


@dataclass(frozen=True)
class Captured:
    """What became of one item of a batch."""

    status: Verdict
    id: int | None = None
    errors: Errors | None = None


@dataclass
class _Batch:
    """A batch on its way into the database, and what it adds to groups by their keys."""

    service: Service
    instance_id: UUID | None
    groups: dict[str, int]  # keys, by fingerprint
    known: dict[str, DeadLetter]  # by dedup_key, locked
    letters: Counter[int] = field(default_factory=Counter)
    unresolved: Counter[int] = field(default_factory=Counter)
    seen: dict[int, tuple[datetime, datetime]] = field(default_factory=dict)

    def see(self, letter: DeadLetter) -> None:
        """Widen the time its group was seen in."""
        first, last = letter.first_failed_at, letter.last_failed_at
        earliest, latest = self.seen.get(letter.group_id, (first, last))
        self.seen[letter.group_id] = min(first, earliest), max(last, latest)


@transaction.atomic
def capture(
    service: Service, items: Sequence[Item | Errors], *, instance_id: UUID | None = None
) -> list[Captured]:
    """Write the items down; those with errors are answered with them.

    Safe to repeat and to run in parallel: a letter is known by its service and `dedup_key`, a
    failure of it by `last_failed_at`, and both are counted once. One that the database cannot hold
    is refused alone. All the others are committed together.
    """
    good = [item for item in items if isinstance(item, Item)]
    # Locks are taken in one order, so that two batches may wait for each other, but in no circle:
    # groups by fingerprint, letters there are by primary key, new ones by dedup_key.
    groups = _groups(service, good)
    batch = _Batch(service, instance_id, groups, _known(service, {_key(item) for item in good}))
    found = {
        index: _capture(batch, item)
        for index, item in sorted(enumerate(items), key=lambda each: (_key(each[1]), each[0]))
    }
    _count(batch)
    if batch.seen:
        writing.announce(service.environment_id)
    return [found[index] for index in range(len(items))]


def _key(item: Item | Errors) -> str:
    return item.dedup_key if isinstance(item, Item) else ""


def _groups(service: Service, items: list[Item]) -> dict[str, int]:
    """The keys of the groups that the items belong to, by fingerprint; new ones are made."""
    wanted = {_fingerprint(item): item for item in items}
    known = Group.objects.filter(service=service, fingerprint__in=wanted)
    found = dict(known.values_list("fingerprint", "pk"))
    if missing := sorted(wanted.keys() - found.keys()):
        new = [_new_group(service, name, wanted[name]) for name in missing]
        Group.objects.bulk_create(new, ignore_conflicts=True)
        found = dict(known.values_list("fingerprint", "pk"))
    return found


def _fingerprint(item: Item) -> str:
    error = item.error
    return item.fingerprint or rules.fingerprint_of(
        error.class_, error.message, error.stack, item.handler
    )


def _new_group(service: Service, fingerprint: str, item: Item) -> Group:
    return Group(
        environment_id=service.environment_id,
        service=service,
        fingerprint=fingerprint,
        title=rules.title_of(item.error.class_, item.error.message),
        error_class=item.error.class_,
        handler=item.handler,
        first_seen_at=item.first_failed_at,
        last_seen_at=item.last_failed_at,
    )


def _known(service: Service, keys: set[str]) -> dict[str, DeadLetter]:
    letters = DeadLetter.objects.filter(service=service, dedup_key__in=keys)
    return {letter.dedup_key: letter for letter in writing.locked(letters)}


def _capture(batch: _Batch, item: Item | Errors) -> Captured:
    if not isinstance(item, Item):
        return Captured("invalid", errors=item)
    try:
        return _create_or_add(batch, item)
    except (DataError, OverflowError, UnicodeEncodeError) as error:
        log.warning("dead_letter.refused", service_id=batch.service.pk, error=type(error).__name__)
        return Captured("invalid", errors={"item": [_("The database cannot hold this.")]})


def _create_or_add(batch: _Batch, item: Item) -> Captured:
    if item.dedup_key not in batch.known:
        try:
            with transaction.atomic():  # a savepoint: what fails in it takes nothing with it
                return _create(batch, item)
        except IntegrityError:  # somebody else's batch was first
            batch.known |= _known(batch.service, {item.dedup_key})
            if item.dedup_key not in batch.known:
                raise
    return _add(batch, batch.known[item.dedup_key], item)


def _create(batch: _Batch, item: Item) -> Captured:
    now = clock.now()
    letter = DeadLetter.objects.create(
        environment_id=batch.service.environment_id,
        service=batch.service,
        dedup_key=item.dedup_key,
        attempts=item.attempts,
        first_failed_at=item.first_failed_at,
        captured_at=now,
        counted=rules.with_counted([], item.last_failed_at),
        status_changed_at=now,
        **_payload(batch, item),
    )
    batch.known[letter.dedup_key] = letter
    batch.letters[letter.group_id] += 1
    batch.unresolved[letter.group_id] += 1
    batch.see(letter)
    return Captured("created", letter.pk)


def _add(batch: _Batch, letter: DeadLetter, item: Item) -> Captured:
    """Count another failure of a letter there is; the newest one says what it is like."""
    if rules.is_replay(letter.counted, item.last_failed_at):
        return Captured("unchanged", letter.pk)
    changes: dict[str, Any] = {
        "attempts": min(letter.attempts + item.attempts, MOST_ATTEMPTS),
        "first_failed_at": min(letter.first_failed_at, item.first_failed_at),
        "captured_at": clock.now(),
        "counted": rules.with_counted(letter.counted, item.last_failed_at),
        "version": letter.version + 1,
    }
    was_in, was_open = letter.group_id, letter.is_unresolved
    if item.last_failed_at > letter.last_failed_at:
        changes |= _payload(batch, item) | _reopened(letter)
    with transaction.atomic():
        DeadLetter.objects.filter(pk=letter.pk).update(**changes)
    for name, value in changes.items():
        setattr(letter, name, value)
    batch.letters[was_in] -= 1
    batch.letters[letter.group_id] += 1
    batch.unresolved[was_in] -= was_open
    batch.unresolved[letter.group_id] += letter.is_unresolved
    batch.see(letter)
    return Captured("updated", letter.pk)


def _reopened(letter: DeadLetter) -> dict[str, Any]:
    """What was over and failed again is new, with what became of it before forgotten."""
    status = rules.after_failure(letter.status)
    if status == letter.status:
        return {}
    return {
        "status": status,
        "status_changed_at": clock.now(),
        "redrive_count": 0,
        "discard_reason": "",
    }


def _payload(batch: _Batch, item: Item) -> dict[str, Any]:
    """What the newest failure says."""
    headers, masked = rules.without_secrets(item.headers)
    content = _without_redacted(item)
    return {
        "group_id": batch.groups[_fingerprint(item)],
        "instance_id": batch.instance_id,
        "handler": item.handler,
        "dependency": item.dependency or "",
        "reason": item.reason,
        "error_class": item.error.class_,
        "error_message": item.error.message[:LONGEST_MESSAGE],
        "error_stack": item.error.stack[-LONGEST_STACK:],
        "last_failed_at": item.last_failed_at,
        "idempotency_key": item.idempotency_key or "",
        "correlation_id": item.correlation_id or "",
        "headers": headers,
        "body": content,
        "body_encoding": item.body.encoding,
        "body_type": item.body.content_type,
        "body_size": len(content),
        "body_sha256": sha256(content).hexdigest(),
        "redacted": [*item.redacted, *masked],
        "revision": item.revision,
    }


def _without_redacted(item: Item) -> bytes:
    """The body, with what its service says it redacted certainly gone from it."""
    content = item.body.content()
    paths = [path.split(".")[1:] for path in item.redacted if path.startswith("body.")]
    if not paths or "json" not in item.body.content_type:
        return content
    try:
        value = msgspec.json.decode(content)
        for path in paths:
            value = rules.masked(value, path)
        masked = msgspec.json.encode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # no JSON that we could look into
        return content
    return content if masked == msgspec.json.encode(msgspec.json.decode(content)) else masked


def _count(batch: _Batch) -> None:
    """Add to the groups, in the order of their keys."""
    for group_id in sorted({*batch.seen, *batch.letters}):
        group = Group.objects.filter(pk=group_id)
        group.update(
            letters=F("letters") + batch.letters[group_id],
            unresolved=F("unresolved") + batch.unresolved[group_id],
        )
        if group_id in batch.seen:
            first, last = batch.seen[group_id]
            group.update(
                first_seen_at=Least(F("first_seen_at"), Value(first)),
                last_seen_at=Greatest(F("last_seen_at"), Value(last)),
            )
