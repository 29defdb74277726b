"""Services are slowed down while a process has too much to do, and nobody looks silent for it."""

import asyncio
import time

import pytest

from apps.core.pace import (
    CALM_SECONDS,
    FULL_SHARE,
    LATE_SECONDS,
    MOST_JITTER,
    SLOWEST,
    Pace,
    Pacer,
    follow,
)


@pytest.fixture
def pacer() -> Pacer:
    return Pacer(poll_seconds=10.0, report_seconds=5.0, jitter=0.2)


class Seconds:
    """One second after another, as the pacer sees them."""

    def __init__(self, pacer: Pacer) -> None:
        self.pacer = pacer
        self.now = 1000.0

    def pass_(self, seconds: float, *, late: float = 0.0, full: float = 0.0) -> float:
        """That many; returns the factor after them."""
        for _ in range(round(seconds)):
            self.now += 1.0
            self.pacer.observe(late, full, self.now)
        return self.pacer.factor


@pytest.fixture
def seconds(pacer: Pacer) -> Seconds:
    return Seconds(pacer)


@pytest.mark.parametrize("strain", [{"late": LATE_SECONDS}, {"full": FULL_SHARE}])
def test_strain_that_lasts_doubles_the_intervals(
    pacer: Pacer, seconds: Seconds, strain: dict[str, float]
) -> None:
    assert seconds.pass_(pacer.pace.longest_report_seconds, **strain) == 1
    assert seconds.pass_(1, **strain) == 2
    assert (pacer.pace.poll_seconds, pacer.pace.report_seconds) == (20.0, 10.0)


def test_a_hiccup_changes_nothing(seconds: Seconds) -> None:
    for _ in range(20):
        seconds.pass_(3, late=1.0)
        seconds.pass_(1)

    assert seconds.pacer.factor == 1


def test_it_ends_at_the_slowest_and_comes_back_to_what_is_set(
    pacer: Pacer, seconds: Seconds
) -> None:
    assert seconds.pass_(600, late=1.0) == SLOWEST
    assert pacer.pace == Pace(80.0, 40.0, MOST_JITTER)

    assert seconds.pass_(CALM_SECONDS) == SLOWEST
    assert seconds.pass_(1) == SLOWEST / 2
    seconds.pass_(600)

    assert pacer.pace == Pace(10.0, 5.0, 0.2)


def test_nobody_is_silent_who_keeps_to_what_it_was_told(pacer: Pacer, seconds: Seconds) -> None:
    """It reports as late as it may, and learns of a slower pace just before it would."""
    reported_at, silent_after, longest = 0.0, pacer.pace.silent_seconds, 0.0
    for now in range(1, 300):
        seconds.pass_(1, late=1.0)
        if now - reported_at >= pacer.pace.longest_report_seconds:
            longest = max(longest, (now - reported_at) / silent_after)
            reported_at, silent_after = now, pacer.pace.silent_seconds

    assert 0 < longest < 1


async def test_a_loop_that_is_held_up_is_noticed(pacer: Pacer) -> None:
    following = asyncio.create_task(follow(pacer, lambda: 0.0, nap=0.01))
    try:
        await asyncio.sleep(0)
        time.sleep(1.5)  # noqa: ASYNC251 – holding the loop up is what it is about
        while not pacer.late_seconds:  # noqa: ASYNC110 – it measures by itself and tells nobody
            await asyncio.sleep(0.01)
    finally:
        following.cancel()

    assert pacer.late_seconds >= LATE_SECONDS
