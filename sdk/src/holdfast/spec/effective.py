"""Rules over several settings, judged on effective values: what is set plus the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.spec.cleaning import Problem
from holdfast.spec.table import default_of

Policy = Mapping[str, Mapping[str, Any]]


def effective_pattern(policy: Policy, pattern: str) -> dict[str, Any]:
    """Every setting of a pattern: as the policy sets it, else its default."""
    return default_of(pattern) | dict(policy.get(pattern, {}))


def check_effective(policy: Policy) -> list[Problem]:
    """What is contradictory in one dependency's policy; each value alone must already be valid.

    `policy` maps patterns to the settings that are set at any level, the rest is default.
    """
    breaker = effective_pattern(policy, "breaker")
    retry = effective_pattern(policy, "retry")
    hedge = effective_pattern(policy, "hedge")
    checks = (
        (
            breaker["open_max_seconds"] < breaker["open_seconds"],
            "breaker.open_max_seconds",
            f"must be at least open_seconds, which is {breaker['open_seconds']:g} s",
        ),
        (
            breaker["window"] == "count" and breaker["minimum_calls"] > breaker["window_calls"],
            "breaker.minimum_calls",
            f"can never be reached: the window holds {breaker['window_calls']} calls",
        ),
        (
            breaker["half_open_successes"] > breaker["half_open_calls"],
            "breaker.half_open_successes",
            f"can never be reached: half_open_calls is {breaker['half_open_calls']}",
        ),
        (
            retry["min_seconds"] > retry["max_seconds"],
            "retry.min_seconds",
            f"must be at most max_seconds, which is {retry['max_seconds']:g} s",
        ),
        (
            hedge["enabled"] and not retry["idempotent"],
            "hedge.enabled",
            "needs retry.idempotent: a hedged call is sent twice",
        ),
    )
    return [Problem(path, "inconsistent", detail) for wrong, path, detail in checks if wrong]
