"""Choosing letters to be given back, once and for all; and pausing, resuming, cancelling that."""

from collections.abc import Sequence

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.core import bus, clock
from apps.core.actor import Actor
from apps.core.db import check_version, get_visible, swap
from apps.core.errors import Conflict, Forbidden, RuleBroken
from apps.core.leases import check_reason
from apps.deadletters import rules
from apps.deadletters.models import DeadLetter, Group, Redrive, RedriveItem
from apps.deadletters.services import writing

MOST_CHOSEN = 1000  # letters chosen one by one


@transaction.atomic
def redrive_letters(letter_ids: Sequence[int], *, reason: str, actor: Actor) -> Redrive:
    """Give these letters back to their services.

    Those that are over, or in another redrive, are skipped and counted.

    Raises:
        RuleBroken: no reason, no letters or over 1,000, or one the actor cannot see.
        Conflict: all of them would be skipped.
        Forbidden: the actor is bound to a service.
    """
    _check(reason, actor)
    wanted = sorted(set(letter_ids))
    if not 1 <= len(wanted) <= MOST_CHOSEN:
        text = _("Choose from 1 to %(most)d letters.") % {"most": MOST_CHOSEN}
        raise RuleBroken(text, errors={"letters": [text]})
    here = DeadLetter.objects.visible_to(actor).filter(environment=actor.environment_id)
    letters = writing.locked(here.filter(pk__in=wanted))
    if missing := sorted(set(wanted) - {letter.pk for letter in letters}):
        text = _("There is no letter %(id)d in this environment.") % {"id": missing[0]}
        raise RuleBroken(text, errors={"letters": [text]})
    many = ngettext("%(count)d letter", "%(count)d letters", len(wanted)) % {"count": len(wanted)}
    scope = str(letters[0]) if len(wanted) == 1 else many
    return _redrive(letters, rules.REDRIVABLE, scope, reason, actor)


@transaction.atomic
def redrive_group(group_id: int, *, reason: str, actor: Actor) -> Redrive:
    """Give back the letters of a group that wait for it now, oldest first, 10,000 at most.

    The choice is frozen: what fails from now on is not in it. Quarantined letters are left out.

    Raises:
        NotFound, Forbidden: as for letters.
        RuleBroken: no reason.
        Conflict: no letter of the group can be redriven now.
    """
    _check(reason, actor)
    group = get_visible(Group.objects, actor=actor, pk=group_id)
    letters = writing.locked(DeadLetter.objects.filter(group=group, status__in=rules.IN_BULK))
    return _redrive(letters, rules.IN_BULK, str(group), reason, actor)


@transaction.atomic
def pause_redrive(redrive_id: int, *, version: int | None, reason: str, actor: Actor) -> Redrive:
    """Hand out no more letters of it; those with their services get their outcomes.

    Raises:
        NotFound, Forbidden, Stale, RuleBroken (no reason).
        Conflict: it is not running.
    """
    redrive = _redrive_at(redrive_id, version, reason, actor)
    if redrive.state != Redrive.State.RUNNING:
        raise Conflict(_("This redrive is not running."))
    return _switch(redrive, Redrive.State.PAUSED, "redrive.paused", reason, actor)


@transaction.atomic
def resume_redrive(redrive_id: int, *, version: int | None, reason: str, actor: Actor) -> Redrive:
    """Hand out its letters again.

    Raises:
        NotFound, Forbidden, Stale, RuleBroken (no reason).
        Conflict: it is not paused.
    """
    redrive = _redrive_at(redrive_id, version, reason, actor)
    if redrive.state != Redrive.State.PAUSED:
        raise Conflict(_("This redrive is not paused."))
    return _switch(redrive, Redrive.State.RUNNING, "redrive.resumed", reason, actor)


@transaction.atomic
def end_redrive(redrive_id: int, *, version: int | None, reason: str, actor: Actor) -> Redrive:
    """Cancel what still waits of it: those letters are as they were before.

    Letters with their services get their outcomes.

    Raises:
        NotFound, Forbidden, Stale, RuleBroken (no reason).
        Conflict: it is over already.
    """
    seen = get_visible(Redrive.objects, actor=actor, pk=redrive_id)
    items = RedriveItem.objects.filter(redrive=seen, state=RedriveItem.State.PENDING)
    waiting = list(items.order_by("pk").select_for_update())  # first, as those who claim do
    redrive = _redrive_at(redrive_id, version, reason, actor)
    if redrive.is_over:
        raise Conflict(_("This redrive is over already."))
    skip(waiting)
    return _switch(redrive, Redrive.State.CANCELLED, "redrive.cancelled", reason, actor, waiting)


# -- steps of the changes above; they open no transaction of their own ---------------------------


def _check(reason: str, actor: Actor) -> None:
    if actor.service_id is not None:
        raise Forbidden(
            _("This token is bound to one service; redrives are for operators."),
            code="service_bound",
        )
    check_reason(reason)


def _redrive_at(redrive_id: int, version: int | None, reason: str, actor: Actor) -> Redrive:
    redrive = get_visible(Redrive.objects, actor=actor, pk=redrive_id)
    _check(reason, actor)
    check_version(redrive, version)
    return redrive


def _redrive(
    letters: list[DeadLetter], allowed: frozenset[str], scope: str, reason: str, actor: Actor
) -> Redrive:
    chosen = [letter for letter in letters if letter.status in allowed]
    if not chosen:
        raise Conflict(_("None of these letters can be redriven now: they are over, or under way."))
    redrive = Redrive.objects.create(
        environment_id=chosen[0].environment_id,
        scope=scope[:300],
        reason=reason,
        requested_by=actor.label[:150],
        total=len(letters),
        pending=len(chosen),
        skipped=len(letters) - len(chosen),
        created_at=clock.now(),
    )
    items = [_item(redrive, letter) for letter in chosen]
    RedriveItem.objects.bulk_create(items, batch_size=writing.BATCH)
    writing.move(chosen, "redrive_pending")
    _tell(redrive)
    writing.record("redrive.started", redrive, actor, after=redrive.as_audited(), reason=reason)
    return redrive


def _item(redrive: Redrive, letter: DeadLetter) -> RedriveItem:
    return RedriveItem(
        redrive=redrive,
        letter=letter,
        service_id=letter.service_id,
        handler=letter.handler,
        status_before=letter.status,
    )


def skip(items: list[RedriveItem]) -> None:
    """Give locked items up: their letters are as they were before. Counting is the caller's."""
    now = clock.now()
    for some in writing.batched([item.pk for item in items]):
        RedriveItem.objects.filter(pk__in=some).update(
            state=RedriveItem.State.SKIPPED, ended_at=now
        )
    before = {item.letter_id: item.status_before for item in items}
    letters: list[DeadLetter] = []
    for some in writing.batched(sorted(before)):
        letters += writing.locked(DeadLetter.objects.filter(pk__in=some))
    for status in sorted(set(before.values())):
        writing.move([letter for letter in letters if before[letter.pk] == status], status)


def _switch(
    redrive: Redrive,
    state: Redrive.State,
    action: str,
    reason: str,
    actor: Actor,
    skipped: Sequence[RedriveItem] = (),
) -> Redrive:
    before = redrive.as_audited()
    swap(redrive, state=state)
    count = len(skipped)
    writing.count_in_redrives({redrive.pk: {"pending": -count, "skipped": count}})
    redrive.refresh_from_db()
    _tell(redrive)
    writing.record(action, redrive, actor, before=before, after=redrive.as_audited(), reason=reason)
    return redrive


def _tell(redrive: Redrive) -> None:
    writing.announce(redrive.environment_id)
    bus.announce("redrives", environment_id=redrive.environment_id)
