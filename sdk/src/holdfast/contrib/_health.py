"""A service's own health, from memory: what it was told by Holdfast and what its breakers say."""

from collections.abc import Iterator
from typing import Any

from holdfast.client import Holdfast

CONTENT_TYPE = "application/health+json"

Check = dict[str, Any]


def health_of(client: Holdfast) -> dict[str, Any]:
    """`{status, checks}` as draft-inadarei-api-health-check has it; never asks anybody.

    The status is "pass" or "warn", never "fail": a service whose dependency is down is not down
    itself, and whoever restarts or removes what fails would make an outage of it. Neither reasons
    nor errors are told: the answer may be read by anybody.
    """
    is_read_only = client.read_only  # first: it starts a client that was not used yet
    stats = client.stats()
    checks = {
        "holdfast:policy": [_policy(stats["policy"], is_stale=stats["stale"])],
        "holdfast:read_only": [_check(is_read_only, is_well=not is_read_only)],
        **dict(_breakers(client, sorted(stats["dependencies"]))),
    }
    is_well = all(check["status"] == "pass" for each in checks.values() for check in each)
    return {"status": "pass" if is_well else "warn", "checks": checks}


def _policy(policy: dict[str, Any] | None, *, is_stale: bool) -> Check:
    """How old the policy in force is; no value if there is none and local defaults hold."""
    age = None if policy is None else policy["age_seconds"]
    return _check(age, is_well=age is not None and not is_stale) | {"observedUnit": "s"}


def _breakers(client: Holdfast, names: list[str]) -> Iterator[tuple[str, list[Check]]]:
    for name in names:
        dependency = client.dependency(name)
        breaker = dependency.breaker
        override = breaker.override
        state = override or breaker.state
        # Other overrides keep nobody away.
        check = _check(state, is_well=override != "force_open" if override else state == "closed")
        yield f"{name}:breaker", [check | {"componentType": "component"}]


def _check(value: Any, *, is_well: bool) -> Check:
    return {"observedValue": value, "status": "pass" if is_well else "warn"}
