"""What holds a status although a result speaks against it: flapping, a parent, a prober cut off."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from apps.health.rules import DOWN, FAILED, UNKNOWN, Verdict

FLAP_RESULTS = 21  # whose changes are weighed; fewer say nothing
FLAP_STARTS, FLAP_STOPS = 20.0, 5.0  # per cent
DEEPEST = 3  # parents above a check
FEWEST_PLACES, CUT_OFF_SHARE = 5, 0.8  # from which on it is the prober and not the places


def flapping(marks: str) -> float:
    """How much results change, in per cent: newer changes weigh more, from 0.80 to 1.18.

    Source: Nagios, "Detection and Handling of State Flapping"; sensu-go, api/core/v2/flapping.go.
    """
    if len(marks) < FLAP_RESULTS:
        return 0.0
    changes = FLAP_RESULTS - 1
    newest = marks[-FLAP_RESULTS:]
    weighed = sum(
        0.80 + 0.02 * number
        for number, (before, after) in enumerate(pairwise(newest))
        if before != after
    )
    return 100 * weighed / changes


def is_flapping(before: bool, marks: str) -> bool:
    """Whether it flaps now: it starts at a higher share than it stops at."""
    share = flapping(marks)
    return share > FLAP_STOPS if before else share >= FLAP_STARTS


@dataclass(frozen=True)
class Above:
    """A check above another: its parent, or a parent of that."""

    name: str
    status: str
    has_failed: bool  # the last time it was asked


@dataclass(frozen=True)
class Doubt:
    """Reasons not to believe that a failure is the fault of what was asked."""

    is_flapping: bool = False
    above: Sequence[Above] = ()  # the nearest first
    is_cut_off: bool = False

    @property
    def blamed(self) -> str:
        """The name of the nearest check above that is down, or empty."""
        return next((each.name for each in self.above if each.status == DOWN), "")

    @property
    def is_suspected(self) -> bool:
        """Whether one above has failed, and is not known to be down or not yet."""
        return any(each.has_failed for each in self.above)


def held(before: str, verdict: Verdict, mark: str, doubt: Doubt) -> Verdict:
    """The verdict once doubts are heard: what was not down does not become it on their account.

    Under a parent that is down it is unknown; else it keeps its status, and is looked at sooner.
    """
    if mark == FAILED and before != DOWN and doubt.blamed:
        return replace(verdict, status=UNKNOWN, is_confirmed=True)
    becomes_down = verdict.status == DOWN and before != DOWN
    if becomes_down and (doubt.is_suspected or doubt.is_cut_off):
        return replace(verdict, status=before, is_confirmed=False)
    if doubt.is_flapping and before != UNKNOWN:
        return replace(verdict, status=before, is_confirmed=False)
    return verdict


def is_cut_off(failing: int, places: int) -> bool:
    """Whether so many unrelated places fail that it is the one who asks."""
    return places >= FEWEST_PLACES and failing >= CUT_OFF_SHARE * places
