"""How long a switch may hold by itself, and why it was made: the rules of flags and overrides."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.utils.translation import gettext as _

from apps.core.errors import RuleBroken

DEFAULT_LEASE = timedelta(minutes=30)  # unless somebody chooses
SHORTEST_LEASE = timedelta(seconds=60)
LONGEST_LEASE = timedelta(days=7)
LONGEST_REASON = 500  # characters


def check_switch(reason: str, lease: timedelta | None) -> None:
    """Raises RuleBroken unless there is a reason and `lease` is between a minute and a week.

    None is a lease too: until somebody ends it.
    """
    errors = _reason_errors(reason)
    if lease is not None and not SHORTEST_LEASE <= lease <= LONGEST_LEASE:
        text = _("A lease is between 60 seconds and 7 days (604,800 seconds).")
        errors["lease_seconds"] = [text]
    if errors:
        raise RuleBroken(_("Nothing was switched."), errors=errors)


def check_reason(reason: str) -> None:
    """Raises RuleBroken without a reason people can read."""
    if errors := _reason_errors(reason):
        raise RuleBroken(_("Say why."), errors=errors)


def check_note(reason: str) -> None:
    """Raises RuleBroken for a reason that cannot be kept; none at all is fine."""
    if reason:
        check_reason(reason)


def lease_of(body: Mapping[str, Any]) -> timedelta | None:
    """The lease in `lease_seconds`; None: until somebody ends it."""
    seconds = body["lease_seconds"]
    return None if seconds is None else timedelta(seconds=seconds)


def _reason_errors(reason: str) -> dict[str, list[str]]:
    if not reason.strip():
        return {"reason": [_("Say why: it is shown to everybody and kept in the audit log.")]}
    if len(reason) > LONGEST_REASON or "\0" in reason:
        text = _("A reason has at most %(most)d characters, and no NUL.")
        return {"reason": [text % {"most": LONGEST_REASON}]}
    return {}
