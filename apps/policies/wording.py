"""Findings in the words of those who can act on them: what is dangerous, and what to change."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.policies.rules import Finding, Hazard

MOST_NAMES = 6  # of a way; of a longer one those in the middle are left out


class Words(NamedTuple):
    detail: str
    remedy: str


def words_of(finding: Finding) -> Words:
    """What a finding says, with its figures, and what can be done about it."""
    hazard = finding.hazard
    return _WORDS[hazard.code](hazard, dict(hazard.figures))


def _contradiction(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    return Words(
        f"{hazard.settings[0]} {figures['detail']}.",
        _("Settings that contradict each other are not published: change one of them."),
    )


def _attempts_over_deadline(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = _(
        "%(attempts)d attempts × %(attempt)g s = %(product)g s is longer than the deadline of "
        "%(total)g s: where attempts time out, "
    )
    if figures["begun"] == figures["attempts"]:
        told += _("the last one is cut short.")
    else:
        told += ngettext(
            "only the first ever starts.", "only the first %(begun)d ever start.", figures["begun"]
        )
    return Words(
        told % figures,
        _("Raise timeout.total_seconds, or lower timeout.attempt_seconds or retry.attempts."),
    )


def _attempt_over_deadline(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = _("An attempt may take %(attempt)g s, but the whole call ends after %(total)g s.")
    return Words(
        told % figures,
        _("Lower timeout.attempt_seconds, or raise timeout.total_seconds."),
    )


def _slow_over_timeout(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = _(
        "A call counts as slow after %(slow)g s (%(setting)s), but is given up after "
        "%(attempt)g s: no call is ever slow, each is a timeout first."
    )
    return Words(
        told % figures,
        _("Lower breaker.%(setting)s, or raise timeout.attempt_seconds.") % figures,
    )


def _trials_over_bulkhead(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = ngettext(
        "A half-open breaker lets %(trials)d trial calls run at once, but the bulkhead has "
        "%(places)d place: the others are refused there.",
        "A half-open breaker lets %(trials)d trial calls run at once, but the bulkhead has "
        "%(places)d places: the others are refused there.",
        figures["places"],
    )
    return Words(
        told % figures,
        _("Lower breaker.half_open_concurrent, or raise bulkhead.max_concurrent."),
    )


def _fallback_never_asked(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = ngettext(
        "Answer %(place)d of the fallback chain is a fixed value, which always works: the one "
        "after it is never asked.",
        "Answer %(place)d of the fallback chain is a fixed value, which always works: the "
        "%(rest)d after it are never asked.",
        figures["rest"],
    )
    return Words(told % figures, _("Put the fixed value last in fallback.chain."))


def _fallback_onto_itself(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = _("The fallback asks %(name)s, the dependency that has just failed.")
    return Words(
        told % figures,
        _("Let fallback.chain end in a fixed value, a cached result or the queue instead."),
    )


def _fallback_onto_degraded(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = _("The fallback asks %(name)s, which is degraded now: %(why)s.")
    return Words(
        told % figures,
        _("Add another answer to fallback.chain, or end what degrades it first."),
    )


def _minimum_calls_unreachable(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = _(
        "The breaker judges %(minimum)d calls or more in %(window)g s, but one process makes "
        "%(seen)g in that time (%(per_minute)g a minute, as observed in the last hour): failures "
        "would not open it."
    )
    return Words(
        told % figures,
        _("Lower breaker.minimum_calls, widen the window, or set breaker.consecutive_failures."),
    )


def _minimum_calls_slow(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = _(
        "The breaker judges %(minimum)d calls or more, and one process takes %(hours)g hours to "
        "make as many (%(per_minute)g a minute, as observed in the last hour)."
    )
    return Words(
        told % figures, _("Lower breaker.minimum_calls, or set breaker.consecutive_failures.")
    )


def _retries_multiply(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = _(
        "Retries multiply along %(way)s: %(sum)s = %(product)s calls at its end for one at its "
        "beginning, where everything fails."
    )
    return Words(told % _way(figures), _remedy_of_retries())


def _retries_in_a_circle(hazard: Hazard, figures: Mapping[str, Any]) -> Words:
    told = _(
        "Services call each other in a circle and retry: %(way)s. Each round makes %(sum)s = "
        "%(product)s calls of one."
    )
    return Words(told % _way(figures), _remedy_of_retries())


def _remedy_of_retries() -> str:
    return _(
        "Retry in one place of the way and set retry.attempts to 1 in the others, unless every "
        "service on it passes on which requests are retries (Holdfast-Retry)."
    )


def _way(figures: Mapping[str, Any]) -> dict[str, str]:
    names = list(figures["names"])
    if len(names) > MOST_NAMES:
        names[MOST_NAMES - 1 : -1] = ["…"]
    return {
        "way": " → ".join(names),
        "sum": " × ".join(map(str, figures["attempts"])),
        "product": f"{figures['product']:,}",
    }


_WORDS: dict[str, Callable[[Hazard, Mapping[str, Any]], Words]] = {
    "contradiction": _contradiction,
    "attempts_over_deadline": _attempts_over_deadline,
    "attempt_over_deadline": _attempt_over_deadline,
    "slow_over_timeout": _slow_over_timeout,
    "trials_over_bulkhead": _trials_over_bulkhead,
    "fallback_never_asked": _fallback_never_asked,
    "fallback_onto_itself": _fallback_onto_itself,
    "fallback_onto_degraded": _fallback_onto_degraded,
    "minimum_calls_unreachable": _minimum_calls_unreachable,
    "minimum_calls_slow": _minimum_calls_slow,
    "retries_multiply": _retries_multiply,
    "retries_in_a_circle": _retries_in_a_circle,
}
CODES = tuple(_WORDS)
