"""What operators do to letters beside redriving them."""

from django.db import transaction
from django.utils.translation import gettext as _

from apps.core.actor import Actor
from apps.core.db import check_version, get_visible
from apps.core.errors import Conflict
from apps.core.leases import check_note, check_reason
from apps.deadletters import rules
from apps.deadletters.models import DeadLetter, Group, LetterStatus
from apps.deadletters.services import writing


@transaction.atomic
def acknowledge_letter(
    letter_id: int, *, version: int | None, reason: str = "", actor: Actor
) -> DeadLetter:
    """Note that somebody looks after a letter.

    Raises:
        NotFound, Stale, RuleBroken (a reason that cannot be kept).
        Conflict: it is acknowledged already, being redriven, or over.
    """
    check_note(reason)
    letter = _letter(letter_id, version, actor)
    if letter.status not in rules.ACKNOWLEDGEABLE:
        raise _wrong_state(letter)
    _change(letter, LetterStatus.ACKNOWLEDGED, "dead_letter.acknowledged", reason, actor)
    return letter


@transaction.atomic
def discard_letter(letter_id: int, *, version: int | None, reason: str, actor: Actor) -> DeadLetter:
    """Give a letter up for good; if it fails again it is new once more.

    Raises:
        NotFound, Stale.
        RuleBroken: no reason.
        Conflict: it is being redriven, or over.
    """
    check_reason(reason)
    letter = _letter(letter_id, version, actor)
    if letter.status not in rules.DISCARDABLE:
        raise _wrong_state(letter)
    _change(
        letter,
        LetterStatus.DISCARDED,
        "dead_letter.discarded",
        reason,
        actor,
        discard_reason=reason,
    )
    return letter


@transaction.atomic
def discard_group(group_id: int, *, reason: str, actor: Actor) -> int:
    """Give up the letters of a group that are unresolved now, oldest first, 10,000 at most.

    Those being redriven are left alone. Returns how many were given up.

    Raises:
        NotFound.
        RuleBroken: no reason.
        Conflict: there is nothing to give up.
    """
    check_reason(reason)
    group = get_visible(Group.objects, actor=actor, pk=group_id)
    chosen = DeadLetter.objects.filter(group=group, status__in=rules.DISCARDABLE)
    letters = writing.locked(chosen)
    if not letters:
        raise Conflict(_("No letter of this group can be discarded now."))
    writing.move(letters, LetterStatus.DISCARDED, discard_reason=reason)
    writing.announce(group.environment_id)
    writing.record(
        "dead_letters.discarded", group, actor, after={"letters": len(letters)}, reason=reason
    )
    return len(letters)


def _letter(letter_id: int, version: int | None, actor: Actor) -> DeadLetter:
    """The letter, locked, if the actor sees it and it is as they saw it."""
    get_visible(DeadLetter.objects.defer("body"), actor=actor, pk=letter_id)
    (letter,) = writing.locked(DeadLetter.objects.filter(pk=letter_id))
    check_version(letter, version)
    return letter


def _change(
    letter: DeadLetter,
    status: str,
    action: str,
    reason: str,
    actor: Actor,
    **changes: str,
) -> None:
    before = letter.as_audited()
    writing.move([letter], status, **changes)
    writing.announce(letter.environment_id)
    writing.record(action, letter, actor, before=before, after=letter.as_audited(), reason=reason)


def _wrong_state(letter: DeadLetter) -> Conflict:
    text = _("This letter is %(status)s: that is not possible now.")
    return Conflict(text % {"status": letter.get_status_display()})
