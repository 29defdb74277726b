"""Which alerts a silence or a channel means."""

from collections.abc import Iterable, Mapping

NAMES = ("rule", "kind", "severity", "service", "dependency", "check", "instance")
MOST_MATCHERS = 20
SEVERITIES = ("info", "warning", "error", "critical")

Labels = Mapping[str, str]


def matches(matchers: Iterable[Mapping[str, object]], labels: Labels) -> bool:
    """Whether every matcher holds of the labels; none at all match nothing."""
    found = list(matchers)
    return bool(found) and all(_holds(matcher, labels) for matcher in found)


def _holds(matcher: Mapping[str, object], labels: Labels) -> bool:
    is_same = labels.get(str(matcher["name"]), "") == matcher["value"]
    return is_same == matcher.get("is_equal", True)
