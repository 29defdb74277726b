"""What a score is made of: shares, weights, caps, and what there is too little of to say."""

import pytest

from apps.health.rules import score as rules
from apps.health.rules.score import Cap, Term
from holdfast import histogram


def term(share: float | None, weight: float = 1, kind: str = "availability") -> Term:
    return Term(kind, "payments-api", share, 100, weight)


class TestScore:
    @pytest.mark.parametrize(
        ("terms", "points", "coverage"),
        [
            ([], None, 0),
            ([term(1.0)], 100, 1),
            ([term(0.0)], 0, 1),
            ([term(0.5, 3), term(1.0, 1)], 62, 1),  # 62.5, to the even number
            ([term(0.5, 3), term(None, 1)], 50, 0.75),  # what is unknown is left out and shown
            ([term(1.0, 1), term(None, 9)], None, 0.1),  # too little is known
            ([term(0.3, 0), term(1.0, 1)], 100, 1),
        ],
    )
    def test_the_weighted_mean_of_what_is_known(
        self, terms: list[Term], points: int | None, coverage: float
    ) -> None:
        found = rules.score(terms)

        assert found.points == points
        assert found.coverage == pytest.approx(coverage)

    @pytest.mark.parametrize(
        ("caps", "points"),
        [
            ([Cap("postgres", "unhealthy")], 40),
            ([Cap("postgres", "degraded")], 70),
            ([Cap("redis", "degraded"), Cap("postgres", "unhealthy")], 40),
            ([Cap("postgres", "unknown")], 100),
            ([], 100),
        ],
    )
    def test_what_is_critical_and_ill_caps_it(self, caps: list[Cap], points: int) -> None:
        assert rules.score([term(1.0)], caps).points == points

    def test_a_cap_raises_nothing(self) -> None:
        assert rules.score([term(0.1)], [Cap("postgres", "degraded")]).points == 10

    def test_the_three_largest_deductions_and_a_cap_among_them(self) -> None:
        terms = [term(0.8, 1, kind) for kind in ("latency", "saturation", "breaker")]

        found = rules.score([*terms, term(0.9, 97)], [Cap("postgres", "unhealthy")])

        assert [each.kind for each in found.deductions][:2] == ["cap", "availability"]
        assert len(found.deductions) == 3
        assert found.points == 40

    def test_deductions_add_up_to_what_is_missing(self) -> None:
        found = rules.score([term(0.5, 2), term(0.75, 1, "latency"), term(1.0, 1)])

        assert sum(each.points for each in found.deductions) == pytest.approx(100 - 68.75)


class TestShares:
    def test_a_share_of_too_few_says_nothing(self) -> None:
        assert rules.part(18, 19) is None
        assert rules.part(18, 20) == 0.9

    @pytest.mark.parametrize(
        ("seconds", "good"), [(0.2, 1), (0.99, 1), (1.2, 0.5), (3.7, 0.5), (4.4, 0), (60, 0)]
    )
    def test_apdex_counts_what_is_tolerable_half(self, seconds: float, good: float) -> None:
        latency = {str(histogram.index_of(seconds)): 1}

        assert rules.apdex(latency, 1.0) == good

    @pytest.mark.parametrize(
        ("states", "share", "status"),
        [
            ({}, None, "unknown"),
            ({"closed": 4}, 1, "healthy"),
            ({"closed": 3, "open": 1}, 0.75, "degraded"),
            ({"half_open": 2}, 0.5, "degraded"),
            ({"open": 3}, 0, "unhealthy"),
        ],
    )
    def test_breakers(self, states: dict[str, int], share: float | None, status: str) -> None:
        assert (rules.of_breakers(states), rules.of_states(states)) == (share, status)

    @pytest.mark.parametrize(("waiting", "share"), [(0, 1), (50, 0.5), (100, 0), (9_999, 0)])
    def test_dead_letters_press_up_to_a_bound(self, waiting: int, share: float) -> None:
        assert rules.of_letters(waiting) == share


class TestStatus:
    @pytest.mark.parametrize(
        ("statuses", "worst"),
        [
            ([], "unknown"),
            (["unknown", "healthy"], "healthy"),
            (["healthy", "degraded"], "degraded"),
            (["unhealthy", "degraded", "unknown"], "unhealthy"),
        ],
    )
    def test_the_worst_decides_and_the_unknown_says_nothing(
        self, statuses: list[str], worst: str
    ) -> None:
        assert rules.worst(statuses) == worst

    @pytest.mark.parametrize(
        ("share", "status"),
        [(None, "unknown"), (1, "healthy"), (0.94, "degraded"), (0.49, "unhealthy")],
    )
    def test_successes(self, share: float | None, status: str) -> None:
        assert rules.of_successes(share, 0.95) == status
