"""What a flag may hold, and how long it may stay engaged."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from apps.core.errors import RuleBroken
from apps.core.leases import DEFAULT_LEASE
from holdfast.spec import clean_flag

LARGEST_VALUE = 16_384  # bytes of JSON: every document of the scope carries it
READ_ONLY_KEY = "read-only"  # of the flag that "Engage read-only" makes

Errors = dict[str, list[str]]


def default_lease(kind: str) -> timedelta | None:
    """The lease when nobody chose one; None: until somebody ends it."""
    return DEFAULT_LEASE if kind == "read_only" else None


def check_flag(entry: Mapping[str, Any]) -> None:
    """Raises RuleBroken, with the errors by field, for values a flag of this kind cannot hold."""
    _cleaned, problems = clean_flag(entry)
    errors: Errors = {}
    for problem in problems:
        errors.setdefault(problem.key, []).append(f"It {problem.detail}.")
    for field, text in _kind_errors(entry):
        errors.setdefault(field, [text])
    if errors:
        raise RuleBroken("Some values do not fit a flag of this kind.", errors=errors)


def _kind_errors(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    kind, names = entry.get("kind"), entry.get("dependencies")
    if kind != "custom":
        if entry.get("value") is not None:
            found.append(("value", "Only custom flags carry a value."))
        if entry.get("percentage", 100) != 100:
            found.append(("percentage", "Only custom flags can be on for a percentage."))
    elif _is_too_large(entry.get("value")):
        found.append(("value", f"It is over {LARGEST_VALUE} bytes."))
    if names is not None and kind != "fallback":
        found.append(("dependencies", "Only fallback flags name dependencies."))
    if names is not None and len(names) == 0:
        found.append(("dependencies", "Name at least one, or none (null) for all."))
    return found


def _is_too_large(value: Any) -> bool:
    try:
        return len(json.dumps(value).encode()) > LARGEST_VALUE
    except (TypeError, ValueError, RecursionError):  # no JSON: the spec has said so already
        return False
