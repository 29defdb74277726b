"""The table of settings itself, one row per setting, in the order forms show them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any

from holdfast.spec.attempts import HEDGE, RETRY, TIMEOUT
from holdfast.spec.failures import DEAD_LETTER, FALLBACK, RECOVERY
from holdfast.spec.gates import BREAKER, BULKHEAD, RATE_LIMIT, THROTTLE
from holdfast.spec.rows import Pattern, Setting

ACTIVE_PATTERNS = (
    "breaker",
    "retry",
    "timeout",
    "bulkhead",
    "rate_limit",
    "fallback",
    "recovery",
    "dead_letter",
    "hedge",
    "throttle",
)
"""Patterns that act in this version; the others are kept and shown, and do nothing yet."""

PATTERNS: Mapping[str, Pattern] = MappingProxyType(
    {
        pattern.key: pattern
        for pattern in (
            BREAKER, RETRY, TIMEOUT, BULKHEAD, RATE_LIMIT, FALLBACK, RECOVERY,
            DEAD_LETTER, HEDGE, THROTTLE,
        )
    }
)  # fmt: skip


def setting(path: str) -> Setting:
    """The setting of that full name, such as "breaker.open_seconds".

    Raises:
        KeyError: there is none.
    """
    pattern, _, key = path.partition(".")
    return PATTERNS[pattern].settings[key]


def default_of(pattern: str) -> dict[str, Any]:
    """Default of every setting of a pattern; the caller's own copy.

    Raises:
        KeyError: there is no such pattern.
    """
    return {key: deepcopy(row.default) for key, row in PATTERNS[pattern].settings.items()}
