"""When rules are evaluated."""

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from apps.alerts.judge import CALM, GRID_SECONDS, Watch
from apps.alerts.services import judges
from apps.core import clock
from tests import make

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class TestRest:
    @pytest.mark.parametrize(
        ("takes", "again_after"),
        [(timedelta(0), CALM), (timedelta(seconds=3), timedelta(seconds=6))],
        ids=["short", "long"],
    )
    def test_a_fleet_that_takes_long_to_judge_has_no_more_than_half_of_the_time(
        self, monkeypatch: pytest.MonkeyPatch, takes: timedelta, again_after: timedelta
    ) -> None:
        environment = make.environment()
        now = NOON
        begun: list[datetime] = []

        def evaluate(environment_id: int, **_rest: Any) -> bool:
            nonlocal now
            if environment_id == environment.pk:
                begun.append(now)
                now += takes
            return False  # wanted as before: news keep coming

        monkeypatch.setattr(judges, "evaluate", evaluate)
        watch = Watch()
        with clock.use(lambda: now):
            while now < NOON + timedelta(seconds=4 * GRID_SECONDS):
                watch.run(threading.Event())
                now += timedelta(seconds=0.25)

        gaps = {after - before for before, after in pairwise(begun)}
        assert gaps == {again_after}
