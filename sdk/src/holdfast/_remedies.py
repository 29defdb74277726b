"""What the rules of error recovery do: isolate, restart, escalate, let the fallback answer, retry.

Runs in the thread whose attempt failed, outside all locks; only a restart has one of its own.
"""

from __future__ import annotations

from typing import Any

from holdfast._dependency import Dependency
from holdfast._events import log
from holdfast._recovery import ErrorPattern, RecoveryRule, name_of


def take_note(
    dependency: Dependency, error: Exception, klass: str, now: float
) -> RecoveryRule | None:
    """Count a failed attempt, and do what a rule says about the pattern it completes.

    Returns:
        The rule, if it is for the call itself to make further attempts.
    """
    pattern = dependency.recovery.noticed(error, klass, now)
    if pattern is None:
        return None
    if pattern.is_news:
        _tell_of_pattern(dependency, pattern)
    if pattern.rule is None:
        return None
    _apply(dependency, pattern, pattern.rule, now)
    return pattern.rule if pattern.rule.action == "retry" else None


def _tell_of_pattern(dependency: Dependency, pattern: ErrorPattern) -> None:
    rules = dependency.recovery.rules
    data = {
        "error": pattern.error,
        "class": pattern.klass,
        "count": rules.pattern_count,
        "window_seconds": rules.pattern_window_seconds,
    }
    dependency.shared.events.emit("error_pattern.detected", dependency.name, data)


def _apply(dependency: Dependency, pattern: ErrorPattern, rule: RecoveryRule, now: float) -> None:
    data = {
        "action": rule.action,
        "match": rule.match,
        "error": pattern.error,
        "class": pattern.klass,
    }
    is_urgent = rule.action == "escalate"
    kind = "recovery.escalated" if is_urgent else "recovery.applied"
    priority = "high" if is_urgent else "normal"
    dependency.shared.events.emit(kind, dependency.name, {**data, "priority": priority})
    if rule.action == "isolate":
        dependency.isolate(rule.isolate_seconds, f"{pattern.error} repeats", now)
    elif rule.action == "fallback":
        dependency.recovery.answer_from_now(rule, now)
    elif rule.action == "restart" and dependency.recovery.begin_restart():
        _begin_restart(dependency, rule)


def _begin_restart(dependency: Dependency, rule: RecoveryRule) -> None:
    try:
        dependency.shared.spawn(lambda: _restart(dependency, rule))
    except RuntimeError as error:  # the system has no thread left, which is not the call's fault
        dependency.recovery.end_restart()
        outcome = {"action": "restart", "succeeded": False, "attempts": 0, "error": str(error)}
        dependency.shared.events.emit("recovery.ended", dependency.name, outcome)


def _restart(dependency: Dependency, rule: RecoveryRule) -> None:
    outcome: dict[str, Any] = {"action": "restart", "succeeded": False, "attempts": 0}
    function = dependency.shared.restarts.get(dependency.name)
    try:
        if function is None:
            outcome["error"] = "no function is registered"
        else:
            dependency.stats.count("recoveries.attempted")
            while not outcome["succeeded"] and outcome["attempts"] < rule.attempts:
                dependency.shared.clock.sleep(rule.delay_seconds)
                outcome["attempts"] += 1
                outcome |= _tried(function)
    finally:
        dependency.recovery.end_restart()
    if outcome["succeeded"]:
        dependency.stats.count("recoveries.succeeded")
    dependency.shared.events.emit("recovery.ended", dependency.name, outcome)


def _tried(function: Any) -> dict[str, Any]:
    try:
        function()
    except Exception as error:  # noqa: BLE001 - a service's own function may raise anything
        log.exception("recovery.restart_failed")
        return {"succeeded": False, "error": name_of(type(error))}
    return {"succeeded": True, "error": None}
