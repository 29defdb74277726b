"""Local defaults from environment variables, used until the first policy arrives."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from holdfast.spec.cleaning import Problem, Refused, clean_item
from holdfast.spec.table import setting

ENVIRONMENT_VARIABLES: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "CB_FAILURE_THRESHOLD": ("breaker.consecutive_failures", 1),
        "CB_TIMEOUT_THRESHOLD": ("timeout.attempt_seconds", 0.001),
        "CB_RESET_TIMEOUT": ("breaker.open_seconds", 0.001),
        "RETRY_MAX_ATTEMPTS": ("retry.attempts", 1),
        "RETRY_BASE_DELAY": ("retry.base_seconds", 0.001),
        "RETRY_MAX_DELAY": ("retry.max_seconds", 0.001),
    }
)
"""Variable → setting and the factor that turns the variable's unit (ms) into the setting's."""


def local_defaults(
    environ: Mapping[str, str],
) -> tuple[dict[str, dict[str, Any]], tuple[Problem, ...]]:
    """Settings named by the environment variables, and what is wrong with the rest.

    A wrong value is left out, and the setting keeps its default.
    """
    policy: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for variable, (path, factor) in ENVIRONMENT_VARIABLES.items():
        if variable not in environ:
            continue
        row = setting(path)
        try:
            value = clean_item(row, _number(environ[variable], factor, variable), variable)
        except Refused as refused:
            problems.extend(refused.problems)
        else:
            policy.setdefault(row.pattern, {})[row.key] = value
    return policy, tuple(problems)


def _number(text: str, factor: float, variable: str) -> float:
    try:
        return float(text[:40]) * factor
    except ValueError:
        raise Refused([Problem(variable, "wrong_type", "must be a number")]) from None
