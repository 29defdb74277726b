"""Findings as the console's pages tell them."""

from collections.abc import Iterable, Sequence

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.core.changes import Danger
from apps.policies.rules import MOST_NAMED, Calls, Finding
from apps.policies.wording import words_of

MOST_SHOWN = 10  # on one page, what is new first


def new_dangers(findings: Sequence[Finding]) -> list[Danger]:
    """What to look at before a change is made: nothing, where it makes nothing worse.

    Nor where it will be refused: that has words of its own.
    """
    is_allowed = all(finding.severity == "warning" for finding in findings)
    is_worse = is_allowed and any(finding.is_new for finding in findings)
    newest_first = sorted(findings, key=lambda finding: not finding.is_new)
    return dangers_of(newest_first[:MOST_SHOWN]) if is_worse else []


def dangers_of(findings: Iterable[Finding]) -> list[Danger]:
    return [_danger(finding) for finding in findings]


def _danger(finding: Finding) -> Danger:
    detail, remedy = words_of(finding)
    more = len(finding.calls) - MOST_NAMED
    rest = ngettext(" and %d more", " and %d more", more) % more if more > 0 else ""
    where = ", ".join(_named(calls) for calls in finding.calls[:MOST_NAMED])
    return Danger(detail, f"({where}{rest})", remedy)


def _named(calls: Calls) -> str:
    if not calls.dependency:
        return _("every dependency")
    return f"{calls.service} → {calls.dependency}" if calls.service else calls.dependency
