"""Settings of the patterns that act on a call that failed."""

from __future__ import annotations

from holdfast.spec.rows import DAY, FALLBACK_CAUSES, Setting, choice, pattern, seconds, whole

FALLBACK = pattern(
    "fallback",
    "Fallback",
    "Answers in place of a dependency that failed or is switched off.",
    Setting(
        key="chain", type="list", default=[], max_items=8, off=[], required=("kind",),
        members=(
            choice(
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
            seconds(
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
    whole(
        "max_concurrent", 10, 1, 100_000,
        "Fallbacks that may run at the same time.", unit="calls",
    ),
)  # fmt: skip

RECOVERY = pattern(
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
            choice(
                "action", "retry", ("retry", "restart", "fallback", "isolate", "escalate"),
                "What is done.", pattern="recovery", aliases=("RecoveryAction",),
            ),
            whole(
                "attempts", 1, 1, 20, "How often `retry` and `restart` try.", unit="attempts",
                pattern="recovery",
            ),
            seconds(
                "delay_seconds", 0.0, 0.0, 3_600.0, "Wait before each of these attempts.",
                pattern="recovery",
            ),
            seconds(
                "cooldown_seconds", 60.0, 0.0, DAY,
                "Shortest time between two actions of one rule in one process.",
                pattern="recovery",
            ),
            seconds(
                "isolate_seconds", 300.0, 0.0, DAY,
                "How long `isolate` keeps callers away and `fallback` answers; 0 does neither.",
                pattern="recovery",
            ),
        ),
        help="When errors make a pattern, the first of these rules that matches is applied; "
        "empty only notices patterns.",
    ),
    seconds(
        "pattern_window_seconds", 60.0, 1.0, 3_600.0,
        "Time in which repeated errors make an error pattern.",
    ),
    whole(
        "pattern_count", 10, 2, 10_000,
        "Errors of one type, in one process, that make an error pattern.", unit="errors",
    ),
)  # fmt: skip

DEAD_LETTER = pattern(
    "dead_letter",
    "Dead letters",
    "Keeps what failed for good, to be looked at and tried again.",
    choice(
        "when", "exhausted", ("never", "exhausted", "failed", "always"),
        "When a failed call becomes a dead letter: never, when retries are used up, when it "
        "failed, or even if a fallback answered.", off="never",
    ),
    whole(
        "max_body_bytes", 1_048_576, 0, 50 * 1_048_576, "Largest body that is kept whole.",
        unit="bytes",
    ),
    Setting(
        key="redact", type="strings", default=[], max_items=200,
        help="Paths in the body whose values are blanked before they leave the process.",
    ),
)  # fmt: skip
