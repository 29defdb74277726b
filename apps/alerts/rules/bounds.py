"""What a rule, an action, a silence or a channel may hold."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from apps.alerts.rules.kinds import KINDS
from apps.alerts.rules.matching import MOST_MATCHERS, NAMES, SEVERITIES
from apps.core.errors import RuleBroken

LONGEST_FOR = 86_400  # seconds
SHORTEST_WINDOW, LONGEST_WINDOW = 10, 3600  # seconds
CHECK_KINDS = (*("http", "tcp", "postgresql", "redis", "rabbitmq", "celery", "host", "heartbeat"),)
SHORTEST_LEASE, LONGEST_LEASE = 60, 86_400  # seconds an action may keep a flag engaged
SHORTEST_SILENCE, LONGEST_SILENCE = 60, 30 * 86_400  # seconds

Errors = dict[str, list[str]]


def check_rule(kind: str, values: Mapping[str, Any]) -> None:
    """Raises RuleBroken, with the errors by field, for what a rule of this kind cannot have."""
    if kind not in KINDS:
        raise RuleBroken("No such kind.", errors={"kind": ["There is no such kind of rule."]})
    errors: Errors = {}
    limits = [values.get("threshold"), values.get("resolve_threshold")]
    for name, limit in zip(("threshold", "resolve_threshold"), limits, strict=True):
        if text := _limit_error(kind, limit):
            errors[name] = [text]
    if not errors and (text := _order_error(kind, *limits)):
        errors["resolve_threshold"] = [text]
    kinds = values.get("check_kinds")
    if kinds is not None and (kind != "check_down" or not kinds or set(kinds) - {*CHECK_KINDS}):
        errors["check_kinds"] = [f"Of check_down: at least one of {', '.join(CHECK_KINDS)}."]
    url = values.get("runbook_url") or ""
    if url and not url.startswith(("https://", "http://")):
        errors["runbook_url"] = ["An address that begins with https:// or http://."]
    if errors:
        raise RuleBroken("Some values do not fit a rule of this kind.", errors=errors)


def _limit_error(kind: str, limit: Any) -> str:
    most = KINDS[kind].most
    if limit is None:
        return ""
    if not math.isfinite(limit) or not 0 <= limit <= most or (KINDS[kind].counts and limit < 1):
        least = 1 if KINDS[kind].counts else 0
        return f"Must be from {least} to {most:g} ({KINDS[kind].unit})."
    return ""


def _order_error(kind: str, threshold: Any, resolve: Any) -> str:
    """A resolve threshold lies on the good side of the threshold, or it would flap."""
    if resolve is None:
        return ""
    if KINDS[kind].below:
        return "" if resolve >= threshold else "Must not be under the threshold."
    return "" if resolve <= threshold else "Must not be over the threshold."


def check_action(values: Mapping[str, Any]) -> None:
    """Raises RuleBroken, with the errors by field, for what an action cannot have."""
    errors: Errors = {}
    if values["lease_seconds"] > values["max_lease_seconds"]:
        errors["lease_seconds"] = ["Must not be over max_lease_seconds."]
    if values.get("dependencies") is not None and values["flag_kind"] != "fallback":
        errors["dependencies"] = ["Only fallback flags name dependencies."]
    if values.get("dependencies") == []:
        errors["dependencies"] = ["Name at least one, or none (null) for all."]
    if errors:
        raise RuleBroken("Some values do not fit an action.", errors=errors)


def check_matchers(matchers: Iterable[Mapping[str, Any]]) -> None:
    """Raises RuleBroken unless there are matchers a silence can go by."""
    found = list(matchers)
    known = all(set(each) <= {"name", "value", "is_equal"} for each in found)
    if not 1 <= len(found) <= MOST_MATCHERS or not known:
        text = f"Give 1 to {MOST_MATCHERS} matchers: name, value, and is_equal where it is not."
        raise RuleBroken(text, errors={"matchers": [text]})
    if unknown := sorted({str(each.get("name")) for each in found} - {*NAMES}):
        text = f"Unknown names: {', '.join(unknown[:5])}. Known: {', '.join(NAMES)}."
        raise RuleBroken(text, errors={"matchers": [text]})
    if all(each.get("is_equal", True) is False for each in found):
        text = "At least one matcher must say what is meant, not only what is not."
        raise RuleBroken(text, errors={"matchers": [text]})


def check_severities(severities: Iterable[str]) -> None:
    if unknown := sorted(set(severities) - {*SEVERITIES}):
        text = f"Unknown severities: {', '.join(unknown[:5])}. Known: {', '.join(SEVERITIES)}."
        raise RuleBroken(text, errors={"severities": [text]})
