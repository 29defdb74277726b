"""The table of settings itself, one row per setting, in the order forms show them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

SettingType = Literal[
    "bool", "int", "seconds", "share", "number", "choice", "choices", "strings", "list", "map",
    "text", "json",
]  # fmt: skip
"""int is whole; seconds, share and number are floats; choices and strings are lists; list holds
objects made of `members`; map maps one of `choices` to such an object."""

ERROR_CLASSES = ("transient", "permanent", "critical", "unknown")
FALLBACK_CAUSES = (
    *ERROR_CLASSES,
    "timeout",
    "open",
    "bulkhead_full",
    "rate_limited",
    "degraded",
)
ACTIVE_PATTERNS = (
    "breaker",
    "retry",
    "timeout",
    "bulkhead",
    "rate_limit",
    "fallback",
    "recovery",
    "dead_letter",
)
"""Patterns that act in this version; the others are kept and shown, and do nothing yet."""

LARGEST_INT = 2_147_483_647  # what an integer column of every database holds
DAY = 86_400.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Setting:
    """One setting of one pattern.

    Attributes:
        minimum, maximum: Inclusive bounds, in `unit`; None where the type has none.
        unit: "s", "share", "calls", "attempts", "bytes" or "" for a plain number.
        off: The explicit value that switches this setting's effect off; None if it has no off.
        choices: Allowed values of a choice, items of choices, keys of a map.
        help: What it does, in plain words, with the unit.
        aliases: Names other systems and our requirements use for the same thing.
        members: Settings of one item, for list and map; `required` says which must be present.
        max_items: Most items of a list.
    """

    key: str
    type: SettingType
    default: Any
    help: str
    pattern: str = ""
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    off: Any = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    members: tuple[Setting, ...] = ()
    required: tuple[str, ...] = ()
    max_items: int | None = None

    @property
    def path(self) -> str:
        """Full name, such as "breaker.open_seconds"."""
        return f"{self.pattern}.{self.key}"

    @property
    def bounds(self) -> str:
        """The allowed range in words, empty if there is none."""
        if self.minimum is None or self.maximum is None:
            return ""
        unit = "" if self.unit in ("", "share") else f" {self.unit}"
        return f"{self.minimum:,g} to {self.maximum:,g}{unit}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Pattern:
    """One resilience pattern and its settings, by key, in the order forms show them."""

    key: str
    title: str
    help: str
    settings: Mapping[str, Setting] = field(default_factory=dict)


def _bool(key: str, default: bool, help: str, **more: Any) -> Setting:
    return Setting(key=key, type="bool", default=default, help=help, **more)


def _int(key: str, default: int, low: int, high: int, help: str, **more: Any) -> Setting:
    return Setting(
        key=key, type="int", default=default, minimum=low, maximum=high, help=help, **more
    )


def _seconds(key: str, default: float, low: float, high: float, help: str, **more: Any) -> Setting:
    return Setting(
        key=key, type="seconds", unit="s", default=default, minimum=low, maximum=high, help=help,
        **more,
    )  # fmt: skip


def _share(key: str, default: float, low: float, help: str, **more: Any) -> Setting:
    return Setting(
        key=key, type="share", unit="share", default=default, minimum=low, maximum=1.0, help=help,
        **more,
    )  # fmt: skip


def _number(key: str, default: float, low: float, high: float, help: str, **more: Any) -> Setting:
    return Setting(
        key=key, type="number", default=default, minimum=low, maximum=high, help=help, **more
    )


def _choice(key: str, default: str, choices: tuple[str, ...], help: str, **more: Any) -> Setting:
    return Setting(key=key, type="choice", default=default, choices=choices, help=help, **more)


def _pattern(key: str, title: str, help: str, *settings: Setting) -> Pattern:
    rows = {row.key: replace(row, pattern=key) for row in settings}
    return Pattern(key=key, title=title, help=help, settings=MappingProxyType(rows))


_BREAKER = _pattern(
    "breaker",
    "Circuit breaker",
    "Stops calling a dependency that keeps failing, and tries it again after a while.",
    _bool("enabled", True, "Whether the breaker guards the calls at all.", off=False),
    _choice(
        "window", "count", ("count", "time"),
        "What the failure rate is judged over: the last calls, or the last seconds.",
    ),
    _int(
        "window_calls", 100, 1, 10_000,
        "How many of the latest calls the rate is judged over, in a count window.", unit="calls",
    ),
    _seconds(
        "window_seconds", 60.0, 1.0, 3_600.0,
        "How many of the latest seconds the rate is judged over, in a time window.",
        aliases=("monitoringPeriodMs",),
    ),
    _int(
        "minimum_calls", 20, 1, 10_000,
        "Calls of one process that must be in the window before a rate can open the breaker.",
        unit="calls",
    ),
    _share(
        "failure_rate", 0.5, 0.01,
        "Share of failed calls in the window at which the breaker opens.",
    ),
    _int(
        "consecutive_failures", 0, 0, 10_000,
        "Failures in a row that open the breaker whatever the rate; 0 switches this rule off.",
        unit="calls", off=0,
        aliases=("failure_threshold", "failureThreshold", "CB_FAILURE_THRESHOLD"),
    ),
    _seconds(
        "slow_call_seconds", 0.0, 0.0, 600.0,
        "A call that takes longer than this counts as slow; 0 measures no slow calls.", off=0.0,
    ),
    _share(
        "slow_call_rate", 1.0, 0.01, "Share of slow calls in the window at which the breaker opens."
    ),
    _seconds(
        "hung_call_seconds", 0.0, 0.0, 3_600.0,
        "A call still running after this long counts as slow before it ends; 0 is off.", off=0.0,
    ),
    _seconds(
        "open_seconds", 30.0, 0.1, DAY,
        "How long calls are rejected after the breaker opened, before it tries again.",
        aliases=("recovery_timeout", "resetTimeoutMs", "breaker timeout", "CB_RESET_TIMEOUT"),
    ),
    _number(
        "open_multiplier", 2.0, 1.0, 10.0,
        "How much longer it stays open each time the trial calls fail again; 1 keeps it the same.",
        off=1.0,
    ),
    _seconds(
        "open_max_seconds", 300.0, 0.1, DAY,
        "Longest time it stays open; at least open_seconds.",
    ),
    _share(
        "open_jitter", 0.2, 0.0,
        "Random share by which the open time is made longer or shorter, so that processes "
        "do not try again together; 0 is off.", off=0.0,
    ),
    _int(
        "half_open_calls", 5, 1, 1_000,
        "Trial calls that decide whether a half-open breaker closes.", unit="calls",
    ),
    _int(
        "half_open_concurrent", 2, 1, 1_000,
        "Trial calls that may run at the same time.", unit="calls",
    ),
    _int(
        "half_open_successes", 0, 0, 1_000,
        "Successful trial calls that close the breaker, any failed one opens it again; "
        "0 decides by failure_rate over half_open_calls.", unit="calls", off=0,
        aliases=("success_threshold",),
    ),
    _seconds(
        "probe_lease_seconds", 0.0, 0.0, 3_600.0,
        "A trial call unheard of for this long counts as failed and gives its place back; "
        "0 derives it from the timeout and the slow-call limit.", off=0.0,
    ),
    _choice(
        "permanent_effect", "success", ("success", "failure", "ignore"),
        "How a permanent error (the dependency answered: your request is wrong) counts.",
    ),
    Setting(
        key="trip_on", type="choices", default=[], choices=ERROR_CLASSES, off=[],
        max_items=len(ERROR_CLASSES),
        help="Error classes of which a single one opens the breaker at once.",
        aliases=("critical errors",),
    ),
)  # fmt: skip

_ATTEMPTS = _int(
    "attempts", 3, 1, 20,
    "Attempts in total, the first one included; 1 never retries.", unit="attempts", off=1,
    aliases=("max_attempts", "maxRetries + 1", "RETRY_MAX_ATTEMPTS"),
)  # fmt: skip
_BASE_SECONDS = _seconds(
    "base_seconds", 0.1, 0.0, 3_600.0, "Wait before the second attempt.",
    aliases=("initial_delay", "baseDelayMs", "RETRY_BASE_DELAY"),
)  # fmt: skip
_MAX_SECONDS = _seconds(
    "max_seconds", 5.0, 0.0, 3_600.0, "Longest wait between two attempts, before jitter.",
    aliases=("wait max", "maxDelayMs", "RETRY_MAX_DELAY"),
)  # fmt: skip

_RETRY = _pattern(
    "retry",
    "Retry",
    "Calls again after a failure that may pass, with growing and jittered waits.",
    _bool("enabled", True, "Whether failed calls are tried again.", off=False),
    _ATTEMPTS,
    _choice(
        "backoff", "exponential", ("fixed", "linear", "exponential", "random", "decorrelated"),
        "How the wait grows from attempt to attempt.", aliases=("RetryStrategy",),
    ),
    _BASE_SECONDS,
    _number(
        "multiplier", 2.0, 1.0, 10.0,
        "Factor from one wait to the next (exponential), or the growth of the range "
        "(decorrelated uses 3 at least).", aliases=("backoffMultiplier",),
    ),
    _seconds(
        "min_seconds", 0.0, 0.0, 3_600.0,
        "Shortest wait between two attempts, after jitter; at most max_seconds.",
        aliases=("wait min",),
    ),
    _MAX_SECONDS,
    _choice(
        "jitter", "full", ("none", "full", "equal", "factor"),
        "How the wait is spread: full picks between 0 and it, equal between half and it, "
        "factor varies it by jitter_factor.", off="none", aliases=("jitterEnabled",),
    ),
    _share("jitter_factor", 0.2, 0.0, "Share by which jitter `factor` varies the wait, each way."),
    Setting(
        key="per_class", type="map", default={}, choices=ERROR_CLASSES,
        members=(
            replace(_ATTEMPTS, pattern="retry"),
            replace(_BASE_SECONDS, pattern="retry"),
            replace(_MAX_SECONDS, pattern="retry"),
            _bool("retry", True, "Whether errors of this class are retried.", pattern="retry"),
        ),
        help="Other attempts and waits for single error classes.",
        aliases=("policies by error type",),
    ),
    _seconds(
        "retry_after_max_seconds", 30.0, 0.0, DAY,
        "Longest wait a dependency may ask for by Retry-After; 0 ignores what it asks for.",
        off=0.0,
    ),
    _number(
        "budget_tokens", 100.0, 0.0, 10_000.0,
        "Size of the retry budget of one process and dependency: each failure takes one token, "
        "retries stop at half; 0 is no budget.", off=0.0,
    ),
    _number("budget_refill", 0.1, 0.01, 10.0, "Tokens a successful call gives back."),
    _bool(
        "idempotent", True,
        "Whether the call may be repeated safely. If not, only errors that prove nothing was "
        "sent are retried.",
    ),
    _choice(
        "when_open", "never", ("never", "wait"),
        "What retry does about an open breaker: nothing, or wait if it reopens in time.",
    ),
)  # fmt: skip

_TIMEOUT = _pattern(
    "timeout",
    "Timeout",
    "Limits how long one attempt, and the whole call with its retries, may take.",
    _seconds(
        "attempt_seconds", 30.0, 0.0, 3_600.0, "Longest time of one attempt; 0 is no limit.",
        off=0.0, aliases=("timeoutThreshold", "timeout", "CB_TIMEOUT_THRESHOLD"),
    ),
    _seconds(
        "total_seconds", 0.0, 0.0, 3_600.0,
        "Longest time of all attempts and the waits between them; 0 is no limit.", off=0.0,
    ),
    _choice(
        "enforce", "cooperative", ("cooperative", "thread"),
        "How ordinary (not async) functions are held to it: they ask how much is left, or run "
        "on a thread that is abandoned when time is up. Python cannot stop a running thread.",
    ),
    _choice(
        "late_result", "return", ("return", "raise"),
        "What becomes of a result that arrives too late.",
    ),
)  # fmt: skip

_BULKHEAD = _pattern(
    "bulkhead",
    "Bulkhead",
    "Limits how many calls to one dependency run at once, so that it cannot take every worker.",
    _bool("enabled", True, "Whether concurrent calls are limited.", off=False),
    _int(
        "max_concurrent", 25, 1, 100_000,
        "Calls of one process that may run at the same time.", unit="calls",
        aliases=("max_concurrent",),
    ),
    _int(
        "max_waiting", 0, 0, 100_000, "Calls that may wait for a place.", unit="calls",
        aliases=("max_waiting",),
    ),
    _seconds(
        "max_wait_seconds", 0.0, 0.0, 3_600.0,
        "Longest wait for a place; 0 never waits.", aliases=("timeout",),
    ),
)  # fmt: skip

_RATE_LIMIT = _pattern(
    "rate_limit",
    "Rate limit",
    "Keeps the calls of one process to a dependency under a rate.",
    _bool("enabled", False, "Whether calls are limited by rate.", off=False),
    _int("calls", 100, 1, LARGEST_INT, "Calls allowed per period.", unit="calls"),
    _seconds("per_seconds", 1.0, 0.001, DAY, "Length of the period."),
    _int(
        "burst", 0, 0, LARGEST_INT, "Calls allowed at once; 0 means as many as `calls`.",
        unit="calls", off=0,
    ),
    _seconds("max_wait_seconds", 0.0, 0.0, DAY, "Longest wait for a turn; 0 never waits."),
    _choice(
        "scope", "attempt", ("attempt", "call"),
        "Whether each attempt takes a turn, or the call once with all its retries.",
    ),
)  # fmt: skip

_FALLBACK = _pattern(
    "fallback",
    "Fallback",
    "Answers in place of a dependency that failed or is switched off.",
    Setting(
        key="chain", type="list", default=[], max_items=8, off=[], required=("kind",),
        members=(
            _choice(
                "kind", "value", ("value", "function", "cached", "queue"),
                "A fixed value, a function of the service, the last good result, or the queue "
                "of dead letters.", pattern="fallback",
            ),
            Setting(
                key="value", type="json", default=None, pattern="fallback",
                help="The answer: of kind value, or acknowledged to the caller by kind queue.",
            ),
            Setting(
                key="name", type="text", default="", pattern="fallback",
                help="Name of the registered function, or of the handler the queue hands to; "
                "empty is the function given to the guard.",
            ),
            _seconds(
                "max_age_seconds", 300.0, 0.0, 31_536_000.0,
                "Oldest result that kind cached may answer with.", pattern="fallback",
            ),
            Setting(
                key="key", type="text", default="", pattern="fallback",
                help="Name under which kind cached keeps one result for all callers; "
                "empty keeps one per set of arguments.",
            ),
        ),
        help="Answers tried in this order until one works; empty is no fallback.",
        aliases=("default value", "alternative function", "cached value", "queue of messages"),
    ),
    Setting(
        key="on", type="choices", choices=FALLBACK_CAUSES, max_items=len(FALLBACK_CAUSES),
        default=["transient", "timeout", "open", "bulkhead_full", "rate_limited", "degraded"],
        help="Causes for which the fallback answers; any other error reaches the caller.",
    ),
    _int(
        "max_concurrent", 10, 1, 100_000,
        "Fallbacks that may run at the same time.", unit="calls",
    ),
)  # fmt: skip

_RECOVERY = _pattern(
    "recovery",
    "Error recovery",
    "Notices errors that repeat, and acts on them by rules.",
    Setting(
        key="rules", type="list", default=[], max_items=50, off=[], required=("match", "action"),
        members=(
            Setting(
                key="match", type="text", default="", pattern="recovery",
                help="Error class, or name of the exception or of one it derives from, such as "
                "transient, TimeoutError, httpx.ConnectError or shop.errors.Busy.",
            ),
            _choice(
                "action", "retry", ("retry", "restart", "fallback", "isolate", "escalate"),
                "What is done.", pattern="recovery", aliases=("RecoveryAction",),
            ),
            _int(
                "attempts", 1, 1, 20, "How often `retry` and `restart` try.", unit="attempts",
                pattern="recovery",
            ),
            _seconds(
                "delay_seconds", 0.0, 0.0, 3_600.0, "Wait before each of these attempts.",
                pattern="recovery",
            ),
            _seconds(
                "cooldown_seconds", 60.0, 0.0, DAY,
                "Shortest time between two actions of one rule in one process.",
                pattern="recovery",
            ),
            _seconds(
                "isolate_seconds", 300.0, 0.0, DAY,
                "How long `isolate` keeps callers away and `fallback` answers; 0 does neither.",
                pattern="recovery",
            ),
        ),
        help="When errors make a pattern, the first of these rules that matches is applied; "
        "empty only notices patterns.",
    ),
    _seconds(
        "pattern_window_seconds", 60.0, 1.0, 3_600.0,
        "Time in which repeated errors make an error pattern.",
    ),
    _int(
        "pattern_count", 10, 2, 10_000,
        "Errors of one type, in one process, that make an error pattern.", unit="errors",
    ),
)  # fmt: skip

_DEAD_LETTER = _pattern(
    "dead_letter",
    "Dead letters",
    "Keeps what failed for good, to be looked at and tried again.",
    _choice(
        "when", "exhausted", ("never", "exhausted", "failed", "always"),
        "When a failed call becomes a dead letter: never, when retries are used up, when it "
        "failed, or even if a fallback answered.", off="never",
    ),
    _int(
        "max_body_bytes", 1_048_576, 0, 50 * 1_048_576, "Largest body that is kept whole.",
        unit="bytes",
    ),
    Setting(
        key="redact", type="strings", default=[], max_items=200,
        help="Paths in the body whose values are blanked before they leave the process.",
    ),
)  # fmt: skip

_HEDGE = _pattern(
    "hedge",
    "Hedging",
    "Sends a second copy of a slow call. Kept and shown, not yet acted upon.",
    _bool(
        "enabled", False,
        "Whether a slow call of an async function is sent a second time. Needs retry.idempotent, "
        "because both copies may be carried out.", off=False,
    ),
    _seconds(
        "after_seconds", 0.0, 0.0, 3_600.0,
        "Wait before the second copy; 0 waits for the 95th percentile of past calls.",
    ),
)  # fmt: skip

_THROTTLE = _pattern(
    "throttle",
    "Adaptive throttle",
    "Drops calls by the share the dependency refuses. Kept and shown, not yet acted upon.",
    _bool(
        "enabled",
        False,
        "Whether a share of the calls is refused before it is sent, while the dependency "
        "accepts less than half of them.",
        off=False,
    ),
)

PATTERNS: Mapping[str, Pattern] = MappingProxyType(
    {
        pattern.key: pattern
        for pattern in (
            _BREAKER, _RETRY, _TIMEOUT, _BULKHEAD, _RATE_LIMIT, _FALLBACK, _RECOVERY,
            _DEAD_LETTER, _HEDGE, _THROTTLE,
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
