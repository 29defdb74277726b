"""A dependency's policy, compiled: what is in force, without any state of calls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast._breaker_rules import BreakerRules
from holdfast._bulkhead import BulkheadRules
from holdfast._fallback import FallbackRules
from holdfast._hedge_delay import HedgeRules
from holdfast._rate_limit import RateLimitRules
from holdfast._recovery import RecoveryRules
from holdfast._retry import RetryRules
from holdfast._scope import ask
from holdfast.spec import effective_pattern

Policy = Mapping[str, Mapping[str, Any]]

UNBOUNDED = 2**62  # places, where no bulkhead says how many

COMPILED = (
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutRules:
    """Effective timeout settings (`holdfast.spec`)."""

    attempt_seconds: float
    total_seconds: float
    enforce: str
    late_result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRules:
    """Effective settings of dead letters (`holdfast.spec`).

    Attributes:
        redact: Paths in the body whose values are blanked before they leave the process.
    """

    when: str
    max_body_bytes: int
    redact: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Immutable; calls load it once and finish on it, whatever arrives meanwhile.

    Attributes:
        policy: What is set, pattern → setting → value.
        effective: What is in force, defaults filled in, of the patterns that are compiled.
        retry, bulkhead, rate_limit, hedge: None if switched off.
        budget: Size of the budget that retries and second copies share, and what a success gives
            back; None if there are neither.
        throttles: Whether a share of the calls may be refused.
        places: How many calls may run at once.
        limit: Seconds an attempt may take; 0 for no limit.
        patience: Seconds from which an attempt is slow or late, so that it needs a second look.
        caches: Whether results are kept for a fallback.
        is_plain: Whether a call that succeeds passes no gate but the breaker and the bulkhead.
        refuses_plainly: Whether an open breaker is the end of it, unless the guard's author has
            a fallback or a dead letter for it.
    """

    policy: Policy
    effective: Mapping[str, Mapping[str, Any]]
    breaker: BreakerRules
    retry: RetryRules | None
    timeout: TimeoutRules
    bulkhead: BulkheadRules | None
    rate_limit: RateLimitRules | None
    fallback: FallbackRules
    recovery: RecoveryRules
    dead_letter: DeadLetterRules
    hedge: HedgeRules | None
    budget: tuple[float, float] | None
    throttles: bool
    places: int
    limit: float
    patience: float
    caches: bool
    is_plain: bool
    refuses_plainly: bool


def compile_plan(policy: Policy, previous: Plan | None = None) -> Plan:
    """The plan of a policy whose values are valid; `previous` itself if nothing changed."""
    if previous is not None and policy == previous.policy:
        return previous
    effective = {pattern: effective_pattern(policy, pattern) for pattern in COMPILED}
    is_chain_set = "chain" in policy.get("fallback", {})
    breaker = BreakerRules.of(effective["breaker"], effective["timeout"]["attempt_seconds"])
    retry = RetryRules.of(effective["retry"])
    timeout = TimeoutRules(**effective["timeout"])
    bulkhead = _bulkhead(effective["bulkhead"])
    if timeout.total_seconds:
        ask()  # calls inside are held to it
    rate_limit = RateLimitRules.of(effective["rate_limit"])
    fallback = FallbackRules.of(effective["fallback"], is_chain_set=is_chain_set)
    recovery = RecoveryRules.of(effective["recovery"])
    of_retry = effective["retry"]
    hedge = HedgeRules.of(effective["hedge"], is_idempotent=of_retry["idempotent"])
    throttles = effective["throttle"]["enabled"]
    return Plan(
        policy=policy,
        effective=effective,
        breaker=breaker,
        retry=retry,
        timeout=timeout,
        bulkhead=bulkhead,
        rate_limit=rate_limit,
        fallback=fallback,
        recovery=recovery,
        dead_letter=_dead_letter(effective["dead_letter"]),
        hedge=hedge,
        budget=(of_retry["budget_tokens"], of_retry["budget_refill"]) if retry or hedge else None,
        throttles=throttles,
        places=UNBOUNDED if bulkhead is None else bulkhead.max_concurrent,
        limit=timeout.attempt_seconds,
        patience=min(timeout.attempt_seconds or math.inf, breaker.slow_call_seconds or math.inf),
        caches=fallback.caches,
        is_plain=(
            rate_limit is None
            and hedge is None
            and not throttles
            and not timeout.total_seconds
            and timeout.enforce == "cooperative"
        ),
        refuses_plainly=(
            not fallback.chain
            and not recovery.rules
            and (retry is None or retry.when_open == "never")
        ),
    )


def _bulkhead(settings: Mapping[str, Any]) -> BulkheadRules | None:
    kept = {key: value for key, value in settings.items() if key != "enabled"}
    return BulkheadRules(**kept) if settings["enabled"] else None


def _dead_letter(settings: Mapping[str, Any]) -> DeadLetterRules:
    return DeadLetterRules(**{**settings, "redact": tuple(settings["redact"])})
