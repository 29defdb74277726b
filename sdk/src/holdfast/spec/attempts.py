"""Settings of the patterns that say how often and how long a call is tried."""

from __future__ import annotations

from dataclasses import replace

from holdfast.spec.rows import (
    DAY,
    ERROR_CLASSES,
    Setting,
    choice,
    number,
    pattern,
    seconds,
    share,
    switch,
    whole,
)

_ATTEMPTS = whole(
    "attempts", 3, 1, 20,
    "Attempts in total, the first one included; 1 never retries.", unit="attempts", off=1,
    aliases=("max_attempts", "maxRetries + 1", "RETRY_MAX_ATTEMPTS"),
)  # fmt: skip
_BASE_SECONDS = seconds(
    "base_seconds", 0.1, 0.0, 3_600.0, "Wait before the second attempt.",
    aliases=("initial_delay", "baseDelayMs", "RETRY_BASE_DELAY"),
)  # fmt: skip
_MAX_SECONDS = seconds(
    "max_seconds", 5.0, 0.0, 3_600.0, "Longest wait between two attempts, before jitter.",
    aliases=("wait max", "maxDelayMs", "RETRY_MAX_DELAY"),
)  # fmt: skip

RETRY = pattern(
    "retry",
    "Retry",
    "Calls again after a failure that may pass, with growing and jittered waits.",
    switch("enabled", True, "Whether failed calls are tried again.", off=False),
    _ATTEMPTS,
    choice(
        "backoff", "exponential", ("fixed", "linear", "exponential", "random", "decorrelated"),
        "How the wait grows from attempt to attempt.", aliases=("RetryStrategy",),
    ),
    _BASE_SECONDS,
    number(
        "multiplier", 2.0, 1.0, 10.0,
        "Factor from one wait to the next (exponential), or the growth of the range "
        "(decorrelated uses 3 at least).", aliases=("backoffMultiplier",),
    ),
    seconds(
        "min_seconds", 0.0, 0.0, 3_600.0,
        "Shortest wait between two attempts, after jitter; at most max_seconds.",
        aliases=("wait min",),
    ),
    _MAX_SECONDS,
    choice(
        "jitter", "full", ("none", "full", "equal", "factor"),
        "How the wait is spread: full picks between 0 and it, equal between half and it, "
        "factor varies it by jitter_factor.", off="none", aliases=("jitterEnabled",),
    ),
    share("jitter_factor", 0.2, 0.0, "Share by which jitter `factor` varies the wait, each way."),
    Setting(
        key="per_class", type="map", default={}, choices=ERROR_CLASSES,
        members=(
            replace(_ATTEMPTS, pattern="retry"),
            replace(_BASE_SECONDS, pattern="retry"),
            replace(_MAX_SECONDS, pattern="retry"),
            switch("retry", True, "Whether errors of this class are retried.", pattern="retry"),
        ),
        help="Other attempts and waits for single error classes.",
        aliases=("policies by error type",),
    ),
    seconds(
        "retry_after_max_seconds", 30.0, 0.0, DAY,
        "Longest wait a dependency may ask for by Retry-After; 0 ignores what it asks for.",
        off=0.0,
    ),
    number(
        "budget_tokens", 100.0, 0.0, 10_000.0,
        "Size of the retry budget of one process and dependency: each failure takes one token, "
        "retries stop at half; 0 is no budget.", off=0.0,
    ),
    number("budget_refill", 0.1, 0.01, 10.0, "Tokens a successful call gives back."),
    switch(
        "idempotent", True,
        "Whether the call may be repeated safely. If not, only errors that prove nothing was "
        "sent are retried.",
    ),
    choice(
        "when_open", "never", ("never", "wait"),
        "What retry does about an open breaker: nothing, or wait if it reopens in time.",
    ),
)  # fmt: skip

TIMEOUT = pattern(
    "timeout",
    "Timeout",
    "Limits how long one attempt, and the whole call with its retries, may take.",
    seconds(
        "attempt_seconds", 30.0, 0.0, 3_600.0, "Longest time of one attempt; 0 is no limit.",
        off=0.0, aliases=("timeoutThreshold", "timeout", "CB_TIMEOUT_THRESHOLD"),
    ),
    seconds(
        "total_seconds", 0.0, 0.0, 3_600.0,
        "Longest time of all attempts and the waits between them; 0 is no limit.", off=0.0,
    ),
    choice(
        "enforce", "cooperative", ("cooperative", "thread"),
        "How ordinary (not async) functions are held to it: they ask how much is left, or run "
        "on a thread that is abandoned when time is up. Python cannot stop a running thread.",
    ),
    choice(
        "late_result", "return", ("return", "raise"),
        "What becomes of a result that arrives too late.",
    ),
)  # fmt: skip

HEDGE = pattern(
    "hedge",
    "Hedging",
    "Sends a second copy of a slow call of an async function, and takes the first answer.",
    switch(
        "enabled", False,
        "Whether a slow call of an async function is sent a second time. Needs retry.idempotent, "
        "because both copies may be carried out.", off=False,
    ),
    seconds(
        "after_seconds", 0.0, 0.0, 3_600.0,
        "Wait before the second copy; 0 waits for the 95th percentile of past calls.",
    ),
)  # fmt: skip
