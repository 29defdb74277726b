"""The runner: each due check is run by exactly one process, and no result is lost or doubled."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import pytest
from django.db import close_old_connections, connections

from apps.core import bus, clock
from apps.health import rules, services
from apps.health.models import Check, Hour, Result
from apps.health.prober import Prober
from apps.health.probes.outcomes import Outcome, failed, fine
from apps.health.runner import Runner
from apps.health.selectors import history, states
from tests import make
from tests.health.liar import liar

Clock = AbstractContextManager[None]
NOW = clock.now().replace(minute=30, second=0, microsecond=0)


def at(moment: datetime) -> Clock:
    """The time is `moment`."""
    return clock.use(lambda: moment)


def run(check: Check, outcome: Outcome) -> Check:
    """One run with that outcome, whether it is due or not."""
    check.refresh_from_db()
    claimed = services.runs.claim(check)
    assert claimed is not None
    assert services.record(claimed, outcome)
    check.refresh_from_db()
    return check


@pytest.mark.django_db(transaction=True)
class TestClaims:
    def test_of_many_processes_one_gets_each_check(self) -> None:
        place = make.environment()
        checks = {make.check(place).pk for _number in range(8)}
        ready = threading.Barrier(4)

        def claim() -> list[int]:
            ready.wait()
            try:
                return [claimed.check_id for claimed in services.claim_due(8)]
            finally:
                connections.close_all()

        with ThreadPoolExecutor(4) as pool:
            claims = [pool.submit(claim) for _number in range(4)]
            got = [each for claimed in claims for each in claimed.result()]
        close_old_connections()

        assert sorted(got) == sorted(checks)


@pytest.mark.django_db(transaction=True)
class TestLiars:
    @pytest.mark.parametrize(
        ("said", "mark"),
        [
            ({"info": b"role:\x00\r\nused_memory:9.e999\r\nevicted_keys:" + b"9" * 4000}, rules.OK),
            ({"info": b"role:\xed\xa0\x80\xff" + b"a" * 100_000}, rules.OK),
            ({"ping": b"-\x00\x1b[2J and more\r\n"}, rules.FAILED),
        ],
        ids=["unwritable", "endless", "error"],
    )
    def test_what_one_server_says_takes_no_others_result_with_it(
        self, said: dict[str, bytes], mark: str
    ) -> None:
        with liar(**said) as url:
            lying, other = make.check(kind="redis", address=url), make.check()
            runs = {claimed.check_id: claimed for claimed in services.claim_due(10)}
            target = runs[lying.pk].target
            assert target is not None
            told = Prober().submit(target).result()

        assert services.record_all([(runs[lying.pk], told), (runs[other.pk], fine(0.1))]) == 2
        lying.refresh_from_db()
        other.refresh_from_db()
        assert (lying.raw[-1], other.raw[-1]) == (mark, rules.OK)
        assert lying.detail.isprintable()
        assert len(repr(lying.facts)) < 2000


@pytest.mark.django_db
class TestLeases:
    def test_a_check_under_way_is_nobody_elses_until_its_lease_ends(self) -> None:
        check = make.check(timeout_seconds=5)

        first = services.claim_due(10)
        meanwhile = services.claim_due(10)
        with at(clock_after(20.5)):
            later = services.claim_due(10)

        assert ([each.check_id for each in first], meanwhile) == ([check.pk], [])
        assert [each.check_id for each in later] == [check.pk]

    def test_the_result_of_a_lost_lease_is_not_written(self) -> None:
        make.check()
        (lost,) = services.claim_due(1)
        with at(clock_after(60)):
            (newer,) = services.claim_due(1)

        assert not services.record(lost, failed("late"))
        assert services.record(newer, fine(0.1))
        assert not services.record(newer, fine(0.1))  # a claim ends with its result
        assert [each.mark for each in Result.objects.all()] == [rules.OK]

    def test_a_change_by_a_person_supersedes_the_run_under_way(self) -> None:
        check = make.check()
        (claimed,) = services.claim_due(1)
        services.update_check(
            check.pk,
            version=1,
            changes={"address": "tcp://127.0.0.1:10"},
            actor=make.actor(check.environment),
        )

        assert not services.record(claimed, fine(0.1))
        assert [each.check_id for each in services.claim_due(1)] == [check.pk]

    def test_what_is_disabled_does_not_run(self) -> None:
        make.check(enabled=False)

        assert services.claim_due(10) == []

    def test_the_next_run_is_an_interval_away_give_or_take_a_tenth(self) -> None:
        check = make.check(interval_seconds=100)

        with at(NOW):
            run(check, fine(0.1))

        assert check.next_at is not None
        assert 90 <= (check.next_at - NOW).total_seconds() <= 110

    def test_unsure_it_looks_again_soon(self) -> None:
        check = make.check(interval_seconds=100, retry_seconds=5)

        with at(NOW):
            run(check, failed("broken"))

        assert check.next_at is not None
        assert 4.5 <= (check.next_at - NOW).total_seconds() <= 5.5

    def test_many_are_claimed_as_cheaply_as_one(self, django_assert_num_queries: object) -> None:
        place = make.environment()
        for _number in range(10):
            make.check(place)

        with django_assert_num_queries(5):  # type: ignore[operator]  # a fixture
            assert len(services.claim_due(10)) == 10

    def test_of_results_written_together_those_that_are_late_are_left_out(self) -> None:
        make.check()
        (lost,) = services.claim_due(1)
        make.check()
        with at(clock_after(60)):
            newer = services.claim_due(10)

        written = services.record_all([(each, fine(0.1)) for each in [lost, *newer]])

        assert written == 2
        assert Result.objects.count() == 2


@pytest.mark.django_db
class TestResults:
    def test_a_status_is_told_to_everybody_when_it_changes_and_not_before(
        self, django_capture_on_commit_callbacks: object
    ) -> None:
        heard: list[dict[str, object]] = []
        cancel = bus.subscribe("health", heard.append, on_loop=False)
        check = make.check()

        with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]  # a fixture
            run(check, fine(0.1))
            run(check, fine(0.1))
        cancel()

        assert heard == [{"environment_id": check.environment_id}]

    def test_slow_answers_degrade_it(self) -> None:
        check = make.check(slow_seconds=0.5)
        run(check, fine(0.1))

        for _number in range(3):
            run(check, fine(0.9))

        (state,) = states(check.environment_id)
        assert (state.status, state.success_rate, state.latency_seconds) == ("degraded", 1.0, 0.9)
        assert "slow" in state.detail

    def test_one_not_looked_at_is_stale(self) -> None:
        check = make.check(interval_seconds=10, timeout_seconds=5)
        with at(NOW):
            run(check, fine(0.1))

        with at(NOW + timedelta(seconds=25)):
            in_time = states(check.environment_id)[0].is_stale
        with at(NOW + timedelta(seconds=26)):
            too_late = states(check.environment_id)[0].is_stale

        assert (in_time, too_late) == (False, True)

    def test_states_take_one_query(self, django_assert_num_queries: object) -> None:
        check = make.check()
        make.check(check.environment, dependency=make.dependency(check.environment))

        with django_assert_num_queries(1):  # type: ignore[operator]  # a fixture
            assert len(states(check.environment_id)) == 2


@pytest.mark.django_db
class TestHistory:
    def test_hours_outlive_results(self) -> None:
        check = make.check()
        for minutes in (0, 1, 2):
            with at(NOW + timedelta(minutes=minutes)):
                run(check, failed("broken") if minutes == 1 else fine(0.2))

        with at(NOW + timedelta(days=3)):
            services.roll_up()
            services.roll_up()
            services.prune()
            points = history(check, hours=24 * 7)

        assert not Result.objects.exists()
        assert [(each.runs, each.failures) for each in points] == [(3, 1)]
        assert points[0].latency_mean == pytest.approx(0.2)

    def test_what_is_not_summed_up_yet_is_kept(self) -> None:
        check = make.check()
        with at(NOW):
            run(check, fine(0.2))

        with at(NOW + timedelta(days=3)):
            services.prune()

        assert Result.objects.count() == 1
        assert not Hour.objects.exists()

    def test_the_running_hour_is_shown_too(self) -> None:
        check = make.check()
        run(check, fine(0.2))

        assert [each.runs for each in history(check, hours=48)] == [1]
        assert [each.runs for each in history(check, hours=1)] == [1]


@pytest.fixture
def hung() -> Iterator[str]:
    """A web server that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.django_db(transaction=True)
class TestRounds:
    def test_begun_in_one_round_written_down_in_a_later_one(self) -> None:
        ended = threading.Event()
        runner = Runner(Prober(), wake=ended.set)
        make.check()

        runner.round(threading.Event())
        under_way = runner.under_way
        assert ended.wait(10)
        runner.round(threading.Event())

        assert (under_way, runner.under_way) == (1, 0)
        assert Result.objects.get().mark == rules.FAILED  # nobody listens there

    def test_what_is_due_soon_starts_at_its_instant(self) -> None:
        ended = threading.Event()
        check = make.check()
        due = clock.now() + timedelta(seconds=0.3)
        Check.objects.filter(pk=check.pk).update(next_at=due)

        Runner(Prober(), wake=ended.set).round(threading.Event())

        assert ended.wait(10)
        assert due - timedelta(milliseconds=20) <= clock.now() < due + timedelta(seconds=5)

    def test_servers_that_hang_hold_up_nobody(self, hung: str) -> None:
        ended = threading.Event()
        runner, place = Runner(Prober(), wake=ended.set), make.environment()
        for _number in range(20):
            make.check(place, kind="http", address=hung, timeout_seconds=30)
        make.check(place)

        runner.round(threading.Event())

        assert ended.wait(10)
        runner.round(threading.Event())
        assert (Result.objects.count(), runner.under_way) == (1, 20)

    def test_a_secret_nobody_can_open_is_a_result_in_words(self) -> None:
        check = make.check(kind="redis", address="redis://127.0.0.1:9/0", secret="x")
        Check.objects.filter(pk=check.pk).update(sealed_secret="gAAAA")

        Runner(Prober()).round(threading.Event())

        assert "SECRET_KEY" in Result.objects.get().detail


def clock_after(seconds: float) -> datetime:
    return datetime.now(NOW.tzinfo) + timedelta(seconds=seconds)
