"""What the services of flags promise, without a door in front of them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from apps.audit import selectors as audit
from apps.audit.models import Chain, Entry
from apps.core import clock
from apps.core.errors import Conflict, DomainError, RuleBroken, Stale
from apps.degradation import services, tasks
from apps.degradation.models import Flag
from apps.publication.models import Fragment, Revision
from tests import make

HALF_HOUR = timedelta(minutes=30)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def engage(flag: Flag, **values: Any) -> Flag:
    call: dict[str, Any] = {
        "version": flag.version,
        "lease": HALF_HOUR,
        "reason": "failing over",
    } | values
    return services.engage_flag(flag.pk, actor=make.actor(flag.environment), **call)


@pytest.mark.django_db
class TestEngageFlag:
    def test_publishes_what_services_read(self) -> None:
        flag = make.flag(key="read-only")

        with clock.use(lambda: NOON):
            engage(flag)

        fragment = Fragment.objects.current().get()
        assert (fragment.part, fragment.name, fragment.service) == ("flag", "read-only", "")
        assert fragment.body == {
            "kind": "read_only",
            "scope": "environment",
            "dependencies": None,
            "enabled": True,
            "value": None,
            "percentage": 100.0,
            "reason": "failing over",
            "set_by": "ana",
            "set_at": "2026-11-22T12:00:00Z",
            "expires_at": "2026-11-22T12:30:00Z",
            "on_stale": "hold",
        }

    def test_a_flag_of_a_service_is_that_services_piece(self) -> None:
        service = make.service(slug="checkout")

        engage(make.flag(of=service))

        assert Fragment.objects.current().get().service == "checkout"

    @pytest.mark.parametrize("seconds", [59, 7 * 86_400 + 1, 0, -5])
    def test_a_lease_out_of_bounds_writes_nothing(self, seconds: int) -> None:
        flag = make.flag()

        with pytest.raises(RuleBroken):
            engage(flag, lease=timedelta(seconds=seconds))

        assert not Revision.objects.exists()

    def test_a_flag_whose_lease_is_over_can_be_engaged_again(self) -> None:
        flag = make.flag()
        with clock.use(lambda: NOON):
            flag = engage(flag)

        with clock.use(lambda: NOON + timedelta(hours=1)):
            again = engage(flag)

        assert again.expires_at == NOON + timedelta(hours=1, minutes=30)

    def test_a_lease_that_is_over_cannot_be_extended(self) -> None:
        with clock.use(lambda: NOON):
            flag = make.engaged()

        with clock.use(lambda: NOON + HALF_HOUR), pytest.raises(Conflict):
            services.extend_flag(
                flag.pk,
                version=flag.version,
                lease=HALF_HOUR,
                actor=make.actor(flag.environment),
            )


@pytest.mark.django_db
class TestSwitchReadOnly:
    def test_makes_the_flag_and_engages_it_in_one_revision(self) -> None:
        place = make.environment()

        flag = services.switch_read_only(
            lease=HALF_HOUR, reason="failing over", actor=make.actor(place)
        )

        assert (flag.key, flag.kind, flag.is_engaged) == ("read-only", "read_only", True)
        actions = list(Entry.objects.order_by("sequence").values_list("action", flat=True))
        assert actions == ["flag.created", "flag.engaged"]
        assert Revision.objects.count() == 1

    def test_engages_the_flag_that_is_there(self) -> None:
        flag = make.flag(key="read-only")
        other = make.flag(of=make.service(flag.environment), key="read-only")

        services.switch_read_only(lease=None, reason="slow", actor=make.actor(flag.environment))

        flag.refresh_from_db()
        other.refresh_from_db()
        assert (flag.enabled, other.enabled) == (True, False)

    def test_nothing_is_made_when_it_cannot_be_engaged(self) -> None:
        with pytest.raises(RuleBroken):
            services.switch_read_only(lease=None, reason=" ", actor=make.actor(make.environment()))

        assert not Flag.objects.exists()
        assert not Entry.objects.exists()

    def test_a_flag_of_another_kind_keeps_its_meaning(self) -> None:
        flag = make.flag(key="read-only", kind="custom")

        with pytest.raises(Conflict):
            services.switch_read_only(lease=None, reason="slow", actor=make.actor(flag.environment))


@pytest.mark.django_db
class TestLeaseEnds:
    def test_a_due_flag_is_ended_as_automation(self) -> None:
        with clock.use(lambda: NOON):
            flag = make.engaged()

        with clock.use(lambda: NOON + HALF_HOUR):
            tasks.end_due_flags()

        flag.refresh_from_db()
        assert (flag.enabled, flag.expires_at) == (False, None)
        assert Fragment.objects.current().get().body is None
        entry = Entry.objects.get(action="flag.ended")
        assert (entry.actor_kind, entry.actor_label) == ("automation", "lease")

    def test_a_lease_that_is_over_ends_in_the_log_before_the_next_begins(self) -> None:
        with clock.use(lambda: NOON):
            flag = make.engaged()

        with clock.use(lambda: NOON + HALF_HOUR):
            engage(flag)

        told = Entry.objects.order_by("sequence").values_list("action", "actor_label")
        actions = [action for action, _actor in told][-2:]
        assert actions == ["flag.ended", "flag.engaged"]
        assert Entry.objects.get(action="flag.ended").actor_label == "lease"

    def test_a_flag_that_is_not_due_stays(self) -> None:
        with clock.use(lambda: NOON):
            make.engaged(key="leased")
            make.engaged(key="unbounded", lease=None)

        with clock.use(lambda: NOON + timedelta(minutes=29, seconds=59)):
            ended = services.end_due_flags()

        assert ended == 0
        assert Flag.objects.filter(enabled=True).count() == 2

    def test_running_twice_ends_once(self) -> None:
        with clock.use(lambda: NOON):
            make.engaged()

        with clock.use(lambda: NOON + HALF_HOUR):
            ended = [services.end_due_flags(), services.end_due_flags()]

        assert ended == [1, 0]

    def test_no_more_than_the_limit_oldest_first(self) -> None:
        with clock.use(lambda: NOON):
            late = make.engaged(lease=timedelta(minutes=20))
            early = make.engaged(lease=timedelta(minutes=10))

        with clock.use(lambda: NOON + HALF_HOUR):
            services.end_due_flags(limit=1)

        late.refresh_from_db()
        early.refresh_from_db()
        assert (early.enabled, late.enabled) == (False, True)


@pytest.mark.django_db(transaction=True)
class TestAtTheSameTime:
    def test_of_two_operators_one_wins_and_the_other_is_told(self) -> None:
        flag = make.flag()
        start = Barrier(2)

        outcomes = together(2, lambda: (start.wait(10), engage(flag))[1])

        assert sorted(outcomes) == ["Flag", "Stale"]
        assert Entry.objects.filter(action="flag.engaged").count() == 1
        assert Revision.objects.count() == 1

    def test_two_who_switch_read_only_make_one_flag(self) -> None:
        actor = make.actor(make.environment())
        start = Barrier(2)

        outcomes = together(
            2,
            lambda: (
                start.wait(10),
                services.switch_read_only(lease=HALF_HOUR, reason="slow", actor=actor),
            )[1],
        )

        assert outcomes.count("Flag") == 1
        assert Flag.objects.count() == 1
        assert Revision.objects.count() == 1

    def test_four_tasks_end_each_lease_once(self) -> None:
        place = make.environment()
        past = clock.now() - timedelta(hours=1)
        with clock.use(lambda: past):
            [make.engaged(place) for _ in range(6)]

        together(4, services.end_due_flags)

        assert not Flag.objects.filter(enabled=True).exists()
        assert Entry.objects.filter(action="flag.ended").count() == 6
        chain = Chain.objects.get(environment_id=place.pk)
        assert audit.verify(chain).broken is None


def together(number: int, work: Any) -> list[str]:
    """Run `work` in that many threads; the class of what each returned or was refused with."""

    def one(_number: int) -> str:
        try:
            return type(work()).__name__
        except DomainError as error:
            return type(error).__name__
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(one, range(number)))


@pytest.mark.django_db
class TestTheDatabaseHoldsTheRules:
    @pytest.mark.parametrize(
        "values",
        [
            {"kind": "other"},
            {"key": "Bad Key"},
            {"kind": "custom", "percentage": 100.5},
            {"kind": "custom", "percentage": -1},
            {"kind": "read_only", "percentage": 50},
            {"kind": "read_only", "value": {"a": 1}},
            {"kind": "custom", "dependencies": ["gemini"]},
            {"on_stale": "forget"},
            {"enabled": True},
            {"enabled": True, "reason": "x", "set_by": "ana"},
            {"enabled": False, "set_at": NOON, "expires_at": NOON + HALF_HOUR},
            {
                "enabled": True,
                "reason": "x",
                "set_by": "ana",
                "set_at": NOON,
                "expires_at": NOON - HALF_HOUR,
            },
        ],
    )
    def test_a_row_that_breaks_one_is_refused(self, values: dict[str, Any]) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            make.flag(**values)

    def test_a_key_is_unique_per_environment_and_per_service(self) -> None:
        service = make.service()
        make.flag(service.environment, "a")
        make.flag(of=service, key="a")

        with pytest.raises(IntegrityError), transaction.atomic():
            make.flag(service.environment, "a")
        with pytest.raises(IntegrityError), transaction.atomic():
            make.flag(of=service, key="a")


@pytest.mark.django_db
def test_a_stale_version_is_told_before_what_it_did_not_see() -> None:
    """Somebody who saw the flag off and ends it late learns that it changed, not "not engaged"."""
    flag = make.flag(version=5)

    with pytest.raises(Stale):
        services.end_flag(flag.pk, version=4, reason="well", actor=make.actor(flag.environment))
