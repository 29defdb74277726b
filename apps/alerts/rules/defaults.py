"""The rules every environment begins with. Editable; `restore` brings one back to this."""

from collections.abc import Mapping
from typing import Any

# What a rule may say, and what it says where nobody said otherwise.
BLANK: Mapping[str, Any] = {
    "resolve_threshold": None,
    "for_seconds": 0,
    "keep_firing_seconds": 0,
    "min_samples": 0,
    "window_seconds": 60,
    "no_data": "keep_last",
    "severity": "warning",
    "check_kinds": None,
    "enabled": True,
    "runbook_url": "",
}


def _rule(kind: str, threshold: float, **settings: Any) -> dict[str, Any]:
    return {**BLANK, "kind": kind, "threshold": threshold, **settings}


DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "latency-high": _rule("latency", 1.0, for_seconds=300, min_samples=20),
    "error-rate-high": _rule(
        "error_rate", 0.05, for_seconds=120, min_samples=20, severity="critical"
    ),
    "breaker-open": _rule("breaker_open", 1, keep_firing_seconds=60, severity="critical"),
    "bulkhead-full": _rule("bulkhead_full", 10),
    "retries-exhausted": _rule("retries_exhausted", 10),
    "database-down": _rule(
        "check_down", 1, check_kinds=["postgresql"], severity="critical", no_data="no_data"
    ),
    "redis-down": _rule(
        "check_down", 1, check_kinds=["redis"], severity="critical", no_data="no_data"
    ),
    "service-unavailable": _rule(
        "check_down",
        1,
        check_kinds=["http", "tcp", "rabbitmq", "celery", "heartbeat"],
        severity="critical",
        no_data="no_data",
    ),
    "check-flapping": _rule("check_flapping", 1),
    "memory-high": _rule(
        "memory_high", 0.85, resolve_threshold=0.80, for_seconds=120, no_data="ok"
    ),
    "disk-low": _rule("disk_low", 0.10, resolve_threshold=0.15, for_seconds=60, no_data="ok"),
    "cpu-high": _rule("cpu_high", 0.90, resolve_threshold=0.80, for_seconds=300, no_data="ok"),
    "not-converged": _rule("not_converged", 30),
    "dead-letters-growing": _rule("dead_letters_growing", 10, window_seconds=300),
    "dead-letters-many": _rule("dead_letters_many", 100),
    "dead-letters-old": _rule("dead_letters_old", 86_400),
}


def runbook(key: str) -> str:
    """Where the manual says what a default rule means and what to do."""
    return f"docs/operating.md#{key}" if key in DEFAULTS else ""
