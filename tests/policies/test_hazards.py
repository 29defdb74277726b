"""The analyses as pure functions: what they find, what they leave alone, and in which words."""

from collections.abc import Mapping
from typing import Any

import pytest

from apps.policies.rules import Calls, Finding, Pace, Surroundings, analyse
from apps.policies.rules.amplification import Hop, Way, explore
from apps.policies.rules.hazards import attempts_of
from apps.policies.wording import words_of

BANK = Calls("checkout", "bank")
Policy = dict[str, dict[str, Any]]


def found(policy: Policy, calls: Calls = BANK, **around: Any) -> dict[str, Finding]:
    findings = analyse({calls: policy}, Surroundings(**around))
    return {finding.hazard.code: finding for finding in findings}


def told(policy: Policy, code: str, **around: Any) -> str:
    return words_of(found(policy, **around)[code]).detail


class TestDeadline:
    def test_attempts_that_never_start_are_counted(self) -> None:
        policy: Policy = {
            "timeout": {"attempt_seconds": 30.0, "total_seconds": 20.0},
            "retry": {"attempts": 3},
        }

        assert told(policy, "attempts_over_deadline") == (
            "3 attempts × 30 s = 90 s is longer than the deadline of 20 s: "
            "where attempts time out, only the first ever starts."
        )

    def test_the_last_one_may_only_be_cut_short(self) -> None:
        policy: Policy = {"timeout": {"attempt_seconds": 10.0, "total_seconds": 25.0}}

        assert told(policy, "attempts_over_deadline").endswith("the last one is cut short.")

    def test_a_single_attempt_has_words_of_its_own(self) -> None:
        policy: Policy = {"timeout": {"total_seconds": 5.0}, "retry": {"enabled": False}}

        assert list(found(policy)) == ["attempt_over_deadline"]

    @pytest.mark.parametrize(
        "policy",
        [
            {},
            {"timeout": {"attempt_seconds": 10.0, "total_seconds": 30.0}},
            {"timeout": {"attempt_seconds": 0.0, "total_seconds": 30.0}},
            {"timeout": {"attempt_seconds": 10.0}, "retry": {"attempts": 20}},
        ],
        ids=["defaults", "enough for all", "attempts without limit", "no deadline"],
    )
    def test_what_fits_is_left_alone(self, policy: Policy) -> None:
        assert found(policy) == {}

    def test_more_attempts_for_one_class_of_errors_count(self) -> None:
        policy: Policy = {
            "timeout": {"attempt_seconds": 5.0, "total_seconds": 20.0},
            "retry": {"attempts": 2, "per_class": {"critical": {"attempts": 6}}},
        }

        assert told(policy, "attempts_over_deadline").startswith("6 attempts × 5 s = 30 s")


class TestAttempts:
    @pytest.mark.parametrize(
        ("retry", "attempts"),
        [
            ({}, 3),
            ({"enabled": False}, 1),
            ({"idempotent": False}, 1),
            ({"attempts": 5, "per_class": {"transient": {"retry": False}}}, 2),
            ({"attempts": 2, "per_class": {"unknown": {"attempts": 4}}}, 4),
            ({"per_class": {"permanent": {"retry": True}}, "attempts": 4}, 4),
        ],
    )
    def test_are_those_the_sdk_makes_at_most(self, retry: dict[str, Any], attempts: int) -> None:
        assert attempts_of({"retry": retry}) == attempts


class TestBreaker:
    @pytest.mark.parametrize("key", ["slow_call_seconds", "hung_call_seconds"])
    def test_a_call_that_is_given_up_before_it_is_slow(self, key: str) -> None:
        policy: Policy = {"breaker": {key: 10.0}, "timeout": {"attempt_seconds": 5.0}}

        assert f"after 10 s ({key}), but is given up after 5 s" in told(policy, "slow_over_timeout")

    @pytest.mark.parametrize(
        ("breaker", "attempt"),
        [
            ({"slow_call_seconds": 5.0}, 5.0),
            ({"slow_call_seconds": 9.0}, 0.0),
            ({"slow_call_seconds": 9.0, "enabled": False}, 5.0),
        ],
    )
    def test_slow_calls_that_can_happen(self, breaker: dict[str, Any], attempt: float) -> None:
        assert found({"breaker": breaker, "timeout": {"attempt_seconds": attempt}}) == {}

    def test_more_trial_calls_than_places(self) -> None:
        policy: Policy = {"breaker": {"half_open_concurrent": 8}, "bulkhead": {"max_concurrent": 3}}

        assert "8 trial calls run at once, but the bulkhead has 3 places" in told(
            policy, "trials_over_bulkhead"
        )

    def test_a_bulkhead_that_is_off_has_no_places(self) -> None:
        off = {"max_concurrent": 1, "enabled": False}

        assert found({"bulkhead": off}) == {}

    def test_a_rate_limit_that_starves_the_breaker_is_refused(self) -> None:
        policy: Policy = {
            "breaker": {"window": "time", "window_seconds": 60.0, "minimum_calls": 100},
            "rate_limit": {"enabled": True, "calls": 10, "per_seconds": 30.0},
        }

        finding = found(policy)["contradiction"]

        assert finding.severity == "refusal"
        assert "the rate limit lets 30 calls begin in a window of 60 s" in words_of(finding).detail

    def test_failures_in_a_row_need_no_rate(self) -> None:
        policy: Policy = {
            "breaker": {"window": "time", "minimum_calls": 100, "consecutive_failures": 5},
            "rate_limit": {"enabled": True, "calls": 1, "per_seconds": 30.0},
        }

        assert found(policy) == {}


class TestTraffic:
    def test_a_window_that_never_fills_says_what_was_observed(self) -> None:
        policy: Policy = {"breaker": {"window": "time", "window_seconds": 60.0}}

        text = told(policy, "minimum_calls_unreachable", traffic={BANK: Pace(0.2, 3)})

        assert "20 calls or more in 60 s, but one process makes 12" in text

    def test_a_count_window_may_take_its_time_but_not_hours(self) -> None:
        quiet, busy = Pace(0.002, 1), Pace(0.2, 1)

        assert "takes 2.8 hours" in told({}, "minimum_calls_slow", traffic={BANK: quiet})
        assert found({}, traffic={BANK: busy}) == {}

    def test_what_nobody_calls_proves_nothing(self) -> None:
        assert found({"breaker": {"window": "time"}}, traffic={BANK: Pace(0.0, 3)}) == {}

    def test_the_most_specific_settings_are_those_judged(self) -> None:
        policies: Mapping[Calls, Policy] = {
            Calls("", ""): {"breaker": {"window": "time", "minimum_calls": 1000}},
            BANK: {"breaker": {"window": "time", "minimum_calls": 1}},
        }

        assert analyse(policies, Surroundings(traffic={BANK: Pace(1.0, 1)})) == []


class TestFallback:
    @pytest.mark.parametrize("name", ["bank", "Bank", " bank "])
    def test_onto_what_has_just_failed(self, name: str) -> None:
        chain = [{"kind": "function", "name": name}]

        assert list(found({"fallback": {"chain": chain}})) == ["fallback_onto_itself"]

    def test_onto_what_is_degraded_for_this_caller(self) -> None:
        policy: Policy = {"fallback": {"chain": [{"kind": "function", "name": "other_bank"}]}}
        degraded = {("checkout", "other-bank"): "its breaker is forced open"}

        text = told(policy, "fallback_onto_degraded", degraded=degraded)

        assert text == (
            "The fallback asks other-bank, which is degraded now: its breaker is forced open."
        )
        assert found(policy, Calls("search", "bank"), degraded=degraded) == {}

    def test_answers_after_one_that_always_works(self) -> None:
        chain = [{"kind": "value", "value": 1}, {"kind": "cached"}, {"kind": "queue"}]

        assert "the 2 after it are never asked" in told(
            {"fallback": {"chain": chain}}, "fallback_never_asked"
        )

    def test_a_fixed_value_at_the_end(self) -> None:
        chain = [{"kind": "function", "name": ""}, {"kind": "value", "value": 1}]

        assert found({"fallback": {"chain": chain}}) == {}


def everywhere(attempts: int) -> dict[Calls, Policy]:
    return {Calls("", ""): {"retry": {"attempts": attempts}}}


class TestAmplification:
    def ways(self, hops: list[Hop], attempts: int = 3) -> dict[str, Finding]:
        return found({}, hops=hops, watched=hops, retries=everywhere(attempts))

    def test_attempts_multiply_along_the_way(self) -> None:
        hops = [("web", "orders"), ("orders", "payments"), ("payments", "postgres")]

        finding = self.ways(hops)["retries_multiply"]

        assert "web → orders → payments → postgres: 3 × 3 × 3 = 27 calls" in (
            words_of(finding).detail
        )
        assert finding.calls == tuple(sorted(Calls(*hop) for hop in hops))

    def test_two_services_that_retry_as_the_library_does(self) -> None:
        assert self.ways([("web", "orders"), ("orders", "postgres")]) == {}

    def test_one_that_retries_much_multiplies_nothing(self) -> None:
        retries = {
            Calls("", ""): {"retry": {"attempts": 1}},
            Calls("", "orders"): {"retry": {"attempts": 20}},
        }
        hops = [("web", "orders"), ("orders", "postgres")]

        assert found({}, hops=hops, watched=hops, retries=retries) == {}

    def test_a_circle_is_told_and_followed_no_further(self) -> None:
        hops = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "postgres")]

        findings = self.ways(hops)

        assert "a → b → c → a" in words_of(findings["retries_in_a_circle"]).detail
        assert "a → b → c → postgres" in words_of(findings["retries_multiply"]).detail

    def test_a_service_that_calls_itself(self) -> None:
        assert list(self.ways([("a", "a")])) == ["retries_in_a_circle"]

    def test_a_circle_nobody_retries_in_is_none_of_ours(self) -> None:
        assert self.ways([("a", "b"), ("b", "a")], attempts=1) == {}

    def test_each_hop_has_the_worst_way_through_it(self) -> None:
        hops = [("web", "orders"), ("job", "orders"), ("orders", "bank"), ("orders", "mail")]
        tried = {("web", "orders"): 2, ("job", "orders"): 5, ("orders", "bank"): 4}

        ways = explore(hops, lambda hop: tried.get(hop, 1)).ways

        assert ways["orders", "mail"] == Way(("job", "orders", "mail"), (5, 1))
        assert ways["web", "orders"] == Way(("web", "orders", "bank"), (2, 4))

    def test_a_thousand_callers_of_one_service_are_one_finding(self) -> None:
        callers = [(f"shop-{number}", "orders") for number in range(1_000)]

        findings = self.ways([*callers, ("orders", "bank"), ("bank", "postgres")])

        assert "along … → orders → bank → postgres: 3 × 3 × 3" in (
            words_of(findings["retries_multiply"]).detail
        )
        assert len(findings["retries_multiply"].calls) == 1_002

    def test_services_that_all_call_each_other_are_told_of_few_circles(self) -> None:
        names = [f"s{number}" for number in range(12)]
        hops = [(one, other) for one in names for other in names if one != other]

        findings = analyse({}, Surroundings(hops=hops, watched=hops, retries=everywhere(2)))

        circles = [each for each in findings if each.hazard.code == "retries_in_a_circle"]
        assert len(circles) == 5
        assert all(len(each.calls) == 2 for each in circles)

    def test_a_way_longer_than_the_stack_is_walked(self) -> None:
        hops = [(f"s{number:05}", f"s{number + 1:05}") for number in range(5_000)]

        text = words_of(self.ways(hops)["retries_multiply"]).detail

        assert "…" in text

    def test_many_services_are_looked_through_in_one_pass(self) -> None:
        """A hundred layers of ten, all of which call all of the next: 10^100 ways."""
        hops = [
            (f"s{layer:03}-{one}", f"s{layer + 1:03}-{other}")
            for layer in range(100)
            for one in range(10)
            for other in range(10)
        ]

        assert len(explore(hops, lambda hop: 2).ways) == len(hops)


class TestWords:
    def test_calls_alike_are_one_finding(self) -> None:
        policy: Policy = {"timeout": {"total_seconds": 5.0}}
        policies = {Calls("", name): policy for name in ("a", "b")}

        (finding,) = analyse(policies, Surroundings())

        assert finding.calls == (Calls("", "a"), Calls("", "b"))
