"""Policies compiled into plans: what the patterns read."""

from __future__ import annotations

from holdfast._plan import COMPILED, compile_plan
from holdfast._recovery import RecoveryRule
from holdfast.spec import ACTIVE_PATTERNS


def test_every_pattern_that_acts_is_compiled() -> None:
    assert set(ACTIVE_PATTERNS) <= set(COMPILED)


class TestRateLimit:
    def test_by_default_nothing_is_limited(self) -> None:
        assert compile_plan({}).rate_limit is None

    def test_a_burst_of_0_is_as_many_as_the_calls_of_a_period(self) -> None:
        rules = compile_plan({"rate_limit": {"enabled": True, "calls": 20}}).rate_limit

        assert rules is not None
        assert (rules.interval, rules.burst) == (0.05, 20)


class TestRecovery:
    def test_a_rule_that_says_little_gets_the_defaults_of_the_table(self) -> None:
        policy = {"recovery": {"rules": [{"match": "transient", "action": "isolate"}]}}

        assert compile_plan(policy).recovery.rules == (
            RecoveryRule(
                match="transient",
                action="isolate",
                attempts=1,
                delay_seconds=0.0,
                cooldown_seconds=60.0,
                isolate_seconds=300.0,
            ),
        )


class TestDeadLetters:
    def test_by_default_what_retries_could_not_save_becomes_one(self) -> None:
        rules = compile_plan({}).dead_letter

        assert (rules.when, rules.max_body_bytes, rules.redact) == ("exhausted", 1_048_576, ())

    def test_a_change_of_other_patterns_compiles_equal_rules(self) -> None:
        before = compile_plan({"dead_letter": {"redact": ["card.number"]}})

        after = compile_plan(
            {"dead_letter": {"redact": ["card.number"]}, "retry": {"attempts": 2}}, before
        )

        assert after.dead_letter == before.dead_letter
