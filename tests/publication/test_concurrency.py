"""Many writers at once: numbers only rise, nobody waits in a circle, no change is lost."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from threading import Barrier
from typing import TypeVar

import pytest
from django.db import connection

from apps.accounts import services as accounts
from apps.accounts.models import Membership
from apps.audit import selectors as audit
from apps.core import bus, clock
from apps.core.errors import DomainError
from apps.fleet import services as fleet
from apps.fleet.models import Environment, Service
from apps.policies import services
from apps.policies.models import BreakerConfig, Override, RetryConfig, Scope
from apps.publication.models import Fragment, Revision
from holdfast.spec import check_effective
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)

R = TypeVar("R")


def at_once(*work: Callable[[], R]) -> list[R | DomainError]:
    """The results of functions that start in the same instant, each on a thread of its own."""
    barrier = Barrier(len(work), timeout=30)

    def run(each: Callable[[], R]) -> R | DomainError:
        try:
            barrier.wait()
            return each()
        except DomainError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(work)) as threads:
        return list(threads.map(run, work))


def setter(place: Environment, scope: Scope, attempts: int) -> Callable[[], object]:
    actor = make.actor(place)
    return lambda: services.set_config(
        "retry", scope=scope, values={"attempts": attempts}, actor=actor
    )


class TestTwentyWriters:
    def test_revisions_are_strictly_increasing_and_the_chain_holds(self) -> None:
        place = make.environment()
        scopes = [make.scope(place, make.dependency(place)) for _number in range(20)]

        results = at_once(*(setter(place, scope, 4) for scope in scopes))

        assert [result for result in results if isinstance(result, DomainError)] == []
        numbers = list(Revision.objects.order_by("pk").values_list("number", flat=True))
        assert numbers == list(range(1, 21))
        assert Fragment.objects.current().filter(environment=place).count() == 20
        assert [verdict.broken for verdict in audit.verify_all()] == [None]

    def test_rows_and_presets_of_the_same_dependencies_do_not_deadlock(self) -> None:
        place = make.environment()
        actor = make.actor(place)
        scopes = [make.scope(place, make.dependency(place)) for _number in range(2)]
        names = ["alpaca", "gemini", "deepseek", "redis"]

        def applier(number: int) -> Callable[[], object]:
            scope, name = scopes[number % 2], names[number % 4]
            return lambda: services.apply_preset(name, scope=scope, actor=actor)

        results = at_once(*(applier(number) for number in range(20)))

        refused = {error.code for error in results if isinstance(error, DomainError)}
        assert refused <= {"stale", "exists"}
        numbers = list(Revision.objects.order_by("pk").values_list("number", flat=True))
        assert numbers == list(range(1, len(numbers) + 1))

    def test_announcements_follow_the_commits(self) -> None:
        place = make.environment()
        scopes = [make.scope(place, make.dependency(place)) for _number in range(8)]
        seen: list[tuple[int, bool]] = []

        def heard(news: dict[str, int]) -> None:
            is_there = Revision.objects.filter(number=news["revision"]).exists()
            seen.append((news["revision"], is_there))

        cancel = bus.subscribe("published", heard)
        try:
            at_once(*(setter(place, scope, 4) for scope in scopes))
        finally:
            cancel()

        assert sorted(seen) == [(number, True) for number in range(1, 9)]


class TestOneInstant:
    def test_two_changes_in_one_millisecond_are_both_seen(self) -> None:
        place = make.environment()
        row = make.config(at=make.scope(place), attempts=2)
        moment = datetime(2026, 11, 22, 14, 3, 7, tzinfo=UTC)

        with clock.use(lambda: moment):
            setter(place, row.holds_in, 3)()
            setter(place, row.holds_in, 4)()

        same = Revision.objects.filter(at=moment).order_by("number")
        assert [revision.number for revision in same] == [2, 3]
        bodies = [Fragment.objects.as_of(place.pk, number).get().body for number in (1, 2, 3)]
        assert bodies == [{"attempts": 2}, {"attempts": 3}, {"attempts": 4}]


class TestTwoOperators:
    def test_of_two_on_one_row_one_is_told_and_nothing_is_lost(self) -> None:
        row = make.config(attempts=2)
        url = f"/api/v1/configs/retry/{row.pk}"
        apis = [make.client(row.environment) for _number in range(2)]

        def patcher(number: int) -> Callable[[], int]:
            body = {"settings": {"attempts": 10 + number}}
            headers = {"If-Match": '"1"'}
            return lambda: int(apis[number].patch(url, body, headers=headers).status_code)

        codes = at_once(patcher(0), patcher(1))

        assert sorted(map(str, codes)) == ["200", "412"]
        kept = RetryConfig.objects.get()
        assert kept.values == {"attempts": 10 + codes.index(200)}
        assert kept.version == 2
        assert Fragment.objects.current().get().body == kept.values

    def test_of_two_who_override_the_same_breaker_one_is_refused(self) -> None:
        place = make.environment()
        scope = make.scope(place, make.dependency(place))
        actor = make.actor(place)

        results = at_once(
            *(
                lambda: services.engage_override(
                    "force_open", scope=scope, reason="provider is down", actor=actor
                )
                for _number in range(4)
            )
        )

        refused = [error.code for error in results if isinstance(error, DomainError)]
        assert refused == ["exists"] * 3
        assert Override.objects.count() == 1

    def test_a_lease_that_ends_in_two_workers_ends_once(self) -> None:
        row = make.override()
        ends = row.expires_at
        assert ends is not None

        with clock.use(lambda: ends):
            results = at_once(*[services.end_due_overrides] * 4)

        assert sorted(map(str, results)) == ["0", "0", "0", "1"]
        assert Revision.objects.count() == 2

    def test_two_changes_right_alone_and_wrong_together_cannot_pass_each_other(self) -> None:
        place = make.environment()
        actor = make.actor(place)
        default, bank = make.scope(place), make.scope(place, make.dependency(place))

        results = at_once(
            lambda: services.set_config(
                "breaker", scope=default, values={"open_seconds": 200.0}, actor=actor
            ),
            lambda: services.set_config(
                "breaker", scope=bank, values={"open_max_seconds": 100.0}, actor=actor
            ),
        )

        assert [type(result).__name__ for result in results].count("RuleBroken") == 1
        kept = BreakerConfig.objects.get().values
        assert check_effective({"breaker": kept}) == []


class TestRollbackAmongWriters:
    def test_it_leaves_the_state_of_its_revision_or_is_refused(self) -> None:
        place = make.environment()
        actor = make.actor(place)
        scopes = [make.scope(place, make.dependency(place)) for _number in range(4)]
        for scope in scopes:
            setter(place, scope, 2)()
        for scope in scopes:
            setter(place, scope, 3)()

        results = at_once(
            lambda: services.rollback(4, reason="it got worse", actor=actor),
            *(setter(place, scope, 5) for scope in scopes),
        )

        restored = Revision.objects.filter(restores=4).values_list("number", flat=True)
        states = [
            [row.body for row in Fragment.objects.as_of(place.pk, number)] for number in restored
        ]
        assert states in ([], [[{"attempts": 2}] * 4])
        assert len(states) == (0 if isinstance(results[0], DomainError) else 1)


class TestTheFirstOfItsKind:
    def test_a_service_that_several_reports_name_is_discovered_once(self) -> None:
        place = make.environment()
        actor = make.actor(place)

        found = at_once(*[lambda: fleet.discover_service("checkout", actor=actor)] * 4)

        assert {each.pk for each in found if isinstance(each, Service)} == {
            Service.objects.get().pk
        }
        assert [each for each in found if isinstance(each, DomainError)] == []

    def test_of_several_who_give_a_first_role_one_wins_and_the_others_are_told(self) -> None:
        place, person = make.environment(), make.user()
        grant = partial(
            accounts.grant_role, person.pk, environment_id=place.pk, actor=make.actor(place)
        )

        results = at_once(*[partial(grant, role=role) for role in ("viewer", "operator") * 2])

        refused = {each.code for each in results if isinstance(each, DomainError)}
        assert refused <= {"exists", "stale"}
        assert Membership.objects.count() == 1
