"""When a check is up, degraded, down: by table."""

import pytest

from apps.health import rules
from apps.health.rules import Confirmation, judge

NEEDED = Confirmation(failures=3, successes=2, threshold=0.95)


def after(marks: str, before: str = "up", needed: Confirmation = NEEDED) -> str:
    """The status after these results, one by one."""
    status, recent = before, ""
    for mark in marks:
        verdict = judge(status, recent, mark, needed)
        status, recent = verdict.status, verdict.recent
    return status


class TestConfirmation:
    @pytest.mark.parametrize(
        ("before", "marks", "status"),
        [
            ("unknown", "o", "up"),
            ("unknown", "f", "unknown"),
            ("unknown", "fff", "down"),
            ("up", "f", "up"),
            ("up", "ff", "up"),
            ("up", "fff", "down"),
            ("up", "ffoff", "up"),
            ("down", "o", "down"),
            ("down", "oo", "up"),
            ("down", "ofo", "down"),
            ("degraded", "fff", "down"),
            ("degraded", "oo", "up"),
        ],
    )
    def test_it_takes_so_many_in_a_row(self, before: str, marks: str, status: str) -> None:
        assert after(marks, before) == status

    @pytest.mark.parametrize(
        ("before", "marks", "is_confirmed"),
        [
            ("up", "o", True),
            ("up", "f", False),
            ("up", "fff", True),
            ("down", "f", True),
            ("down", "o", False),
            ("down", "oo", True),
            ("unknown", "f", False),
        ],
    )
    def test_the_next_look_comes_sooner_until_it_is_sure(
        self, before: str, marks: str, is_confirmed: bool
    ) -> None:
        recent, status = "", before
        for mark in marks:
            verdict = judge(status, recent, mark, NEEDED)
            status, recent = verdict.status, verdict.recent

        assert verdict.is_confirmed == is_confirmed


class TestDegraded:
    @pytest.mark.parametrize(
        ("marks", "status"),
        [
            ("o" * 19 + "f", "up"),  # 0.95 is not below 0.95
            ("f" + "o" * 18, "up"),  # too few to judge
            ("f" + "o" * 9 + "f" + "o" * 9, "degraded"),
            ("f" + "o" * 9 + "f" + "o" * 18, "up"),
            ("sss", "degraded"),
            ("ss", "up"),
            ("ssso", "degraded"),
            ("sssoo", "up"),
            ("ssf", "up"),
        ],
    )
    def test_by_share_of_successes_and_by_slowness(self, marks: str, status: str) -> None:
        assert after(marks) == status

    def test_failing_now_and_then_shows_while_it_fails(self) -> None:
        assert after("f" + "o" * 17 + "ff") == "degraded"

    def test_an_outage_that_is_over_does_not_count_as_degradation(self) -> None:
        assert after("o" * 17 + "fff" + "oo") == "up"


class TestWait:
    @pytest.mark.parametrize(
        ("is_confirmed", "jitter", "seconds"),
        [(True, 0, 30), (True, 1, 33), (True, -1, 27), (False, 0, 5), (False, 1, 5.5)],
    )
    def test_jittered_and_shorter_while_unsure(
        self, is_confirmed: bool, jitter: float, seconds: float
    ) -> None:
        wait = rules.wait_seconds(interval=30, retry=5, is_confirmed=is_confirmed, jitter=jitter)

        assert wait == pytest.approx(seconds)

    def test_a_retry_is_never_later_than_the_interval(self) -> None:
        wait = rules.wait_seconds(interval=2, retry=5, is_confirmed=False, jitter=0)

        assert wait == 2


class TestWorst:
    @pytest.mark.parametrize(
        ("statuses", "status"),
        [
            ([], "up"),
            (["up", "unknown"], "unknown"),
            (["up", "degraded", "unknown"], "degraded"),
            (["degraded", "down"], "down"),
        ],
    )
    def test_what_needs_attention_most(self, statuses: list[str], status: str) -> None:
        assert rules.worst(statuses) == status
