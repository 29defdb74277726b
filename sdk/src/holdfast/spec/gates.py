"""Settings of the patterns that decide whether a call may begin."""

from __future__ import annotations

from holdfast.spec.rows import (
    DAY,
    ERROR_CLASSES,
    LARGEST_INT,
    Setting,
    choice,
    number,
    pattern,
    seconds,
    share,
    switch,
    whole,
)

BREAKER = pattern(
    "breaker",
    "Circuit breaker",
    "Stops calling a dependency that keeps failing, and tries it again after a while.",
    switch("enabled", True, "Whether the breaker guards the calls at all.", off=False),
    choice(
        "window", "count", ("count", "time"),
        "What the failure rate is judged over: the last calls, or the last seconds.",
    ),
    whole(
        "window_calls", 100, 1, 10_000,
        "How many of the latest calls the rate is judged over, in a count window.", unit="calls",
    ),
    seconds(
        "window_seconds", 60.0, 1.0, 3_600.0,
        "How many of the latest seconds the rate is judged over, in a time window.",
        aliases=("monitoringPeriodMs",),
    ),
    whole(
        "minimum_calls", 20, 1, 10_000,
        "Calls of one process that must be in the window before a rate can open the breaker.",
        unit="calls",
    ),
    share(
        "failure_rate", 0.5, 0.01,
        "Share of failed calls in the window at which the breaker opens.",
    ),
    whole(
        "consecutive_failures", 0, 0, 10_000,
        "Failures in a row that open the breaker whatever the rate; 0 switches this rule off.",
        unit="calls", off=0,
        aliases=("failure_threshold", "failureThreshold", "CB_FAILURE_THRESHOLD"),
    ),
    seconds(
        "slow_call_seconds", 0.0, 0.0, 600.0,
        "A call that takes longer than this counts as slow; 0 measures no slow calls.", off=0.0,
    ),
    share(
        "slow_call_rate", 1.0, 0.01, "Share of slow calls in the window at which the breaker opens."
    ),
    seconds(
        "hung_call_seconds", 0.0, 0.0, 3_600.0,
        "A call still running after this long counts as slow before it ends; 0 is off.", off=0.0,
    ),
    seconds(
        "open_seconds", 30.0, 0.1, DAY,
        "How long calls are rejected after the breaker opened, before it tries again.",
        aliases=("recovery_timeout", "resetTimeoutMs", "breaker timeout", "CB_RESET_TIMEOUT"),
    ),
    number(
        "open_multiplier", 2.0, 1.0, 10.0,
        "How much longer it stays open each time the trial calls fail again; 1 keeps it the same.",
        off=1.0,
    ),
    seconds(
        "open_max_seconds", 300.0, 0.1, DAY,
        "Longest time it stays open; at least open_seconds.",
    ),
    share(
        "open_jitter", 0.2, 0.0,
        "Random share by which the open time is made longer or shorter, so that processes "
        "do not try again together; 0 is off.", off=0.0,
    ),
    whole(
        "half_open_calls", 5, 1, 1_000,
        "Trial calls that decide whether a half-open breaker closes.", unit="calls",
    ),
    whole(
        "half_open_concurrent", 2, 1, 1_000,
        "Trial calls that may run at the same time.", unit="calls",
    ),
    whole(
        "half_open_successes", 0, 0, 1_000,
        "Successful trial calls that close the breaker, any failed one opens it again; "
        "0 decides by failure_rate over half_open_calls.", unit="calls", off=0,
        aliases=("success_threshold",),
    ),
    seconds(
        "probe_lease_seconds", 0.0, 0.0, 3_600.0,
        "A trial call unheard of for this long counts as failed and gives its place back; "
        "0 derives it from the timeout and the slow-call limit.", off=0.0,
    ),
    choice(
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

BULKHEAD = pattern(
    "bulkhead",
    "Bulkhead",
    "Limits how many calls to one dependency run at once, so that it cannot take every worker.",
    switch("enabled", True, "Whether concurrent calls are limited.", off=False),
    whole(
        "max_concurrent", 25, 1, 100_000,
        "Calls of one process that may run at the same time.", unit="calls",
        aliases=("max_concurrent",),
    ),
    whole(
        "max_waiting", 0, 0, 100_000, "Calls that may wait for a place.", unit="calls",
        aliases=("max_waiting",),
    ),
    seconds(
        "max_wait_seconds", 0.0, 0.0, 3_600.0,
        "Longest wait for a place; 0 never waits.", aliases=("timeout",),
    ),
)  # fmt: skip

RATE_LIMIT = pattern(
    "rate_limit",
    "Rate limit",
    "Keeps the calls of one process to a dependency under a rate.",
    switch("enabled", False, "Whether calls are limited by rate.", off=False),
    whole("calls", 100, 1, LARGEST_INT, "Calls allowed per period.", unit="calls"),
    seconds("per_seconds", 1.0, 0.001, DAY, "Length of the period."),
    whole(
        "burst", 0, 0, LARGEST_INT, "Calls allowed at once; 0 means as many as `calls`.",
        unit="calls", off=0,
    ),
    seconds("max_wait_seconds", 0.0, 0.0, DAY, "Longest wait for a turn; 0 never waits."),
    choice(
        "scope", "attempt", ("attempt", "call"),
        "Whether each attempt takes a turn, or the call once with all its retries.",
    ),
)  # fmt: skip

THROTTLE = pattern(
    "throttle",
    "Adaptive throttle",
    "Refuses a share of the calls while the dependency accepts less than half of them.",
    switch(
        "enabled",
        False,
        "Whether a share of the calls is refused before it is sent, while the dependency "
        "accepts less than half of them.",
        off=False,
    ),
)
