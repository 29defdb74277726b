"""Why a dependency is handled as it is: each value with where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast import spec
from holdfast._dependency import Dependency

if TYPE_CHECKING:
    from holdfast._engine import Engine


def explain(engine: Engine, dependency: Dependency) -> dict[str, Any]:
    """Effective settings with their sources, the document they are of, overrides and flags.

    Once, for the document: `epoch`, `revision`, `published_at`, `age_seconds` since its receipt,
    and as `origin` "server", "snapshot" (the disk; not yet confirmed) or "local defaults" (none).
    For each setting: `source` is "policy", "local" (environment variables, until a policy arrives)
    or "default". `acts` is false for settings that are kept and do nothing in this version.
    `hedge` says when second copies are sent of calls of async functions, the only ones there are
    any of: None if never, `after_seconds` None while too few calls were observed.
    """
    now = engine.clock.monotonic()
    policy = dependency.plan.policy
    given = "local" if engine.document is None else "policy"
    settings = {
        row.path: {
            "value": policy.get(pattern, {}).get(key, row.default),
            "source": given if key in policy.get(pattern, {}) else "default",
            "acts": pattern in spec.ACTIVE_PATTERNS,
        }
        for pattern, described in spec.PATTERNS.items()
        for key, row in described.settings.items()
    }
    return {
        "dependency": dependency.name,
        "epoch": engine.document.epoch if engine.document else None,
        "revision": engine.document.revision if engine.document else None,
        "published_at": engine.document.published_at if engine.document else None,
        "origin": _origin(engine),
        "age_seconds": now - engine.received.monotonic if engine.received else None,
        "stale": dependency.shared.stale,
        "settings": settings,
        "hedge": _hedge(dependency),
        "breaker": dependency.breaker_state(),
        "override": _override(dependency, now),
        "flags": [flag.key for flag in dependency.degrading],
        "degraded": dependency.engaged_flag(now) is not None,
    }


def _origin(engine: Engine) -> str:
    if engine.received is None:
        return "local defaults"
    return "snapshot" if engine.received.is_from_disk else "server"


def _hedge(dependency: Dependency) -> dict[str, Any] | None:
    rules = dependency.plan.hedge
    if rules is None:
        return None
    return {"functions": "async", "after_seconds": rules.delay(dependency.durations)}


def _override(dependency: Dependency, now: float) -> dict[str, Any] | None:
    dependency.breaker.sweep(now)
    override = dependency.breaker.override
    if override is None:
        return None
    left = None if override.deadline is None else max(0.0, override.deadline - now)
    return {"mode": override.mode, "reason": override.reason, "remaining_seconds": left}
