"""The timeline: everything that happened, in one order, for those who may know of it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.alerts.models import Transition as AlertTransition
from apps.core import clock
from apps.degradation import services as degradation
from apps.fleet.models import Environment, Service
from apps.health.models import Transition
from apps.telemetry.models import BreakerEvent, Marker
from tests import make

pytestmark = pytest.mark.django_db

URL = "/api/v1/timeline"
NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def now() -> Iterator[None]:
    with clock.use(lambda: at(3_600)):
        yield


@pytest.fixture
def place(now: None) -> Environment:
    return make.environment("production")


@pytest.fixture
def service(place: Environment) -> Service:
    return make.service(place, "checkout")


def moved(
    service: Service, state: str, seconds: float, *, dependency: str = "payments-api", on: str = "a"
) -> BreakerEvent:
    return BreakerEvent.objects.create(
        service=service,
        dependency=dependency,
        instance_id=uuid4(),
        instance_name=on,
        type="breaker.state_changed",
        to_state=state,
        at=at(seconds),
        received_at=at(seconds),
    )


def told(place: Environment, **query: Any) -> list[dict[str, Any]]:
    answer = make.client(place).get(URL, query)
    assert answer.status_code == 200, answer.content
    return list(answer.json()["results"])


def texts(place: Environment, **query: Any) -> list[str]:
    return [each["text"] for each in told(place, **query)]


class TestWhatIsTold:
    def test_breakers_that_move_together_are_one_moment(self, service: Service) -> None:
        for number in range(3):
            moved(service, "open", number, on=f"pod-{number}")
        moved(service, "open", 60, on="pod-9")

        late, early = told(service.environment, kind="breaker")

        assert late["text"] == "The breaker of checkout → payments-api is open on pod-9."
        assert early["text"] == "The breakers of checkout → payments-api are open on 3 instances."
        assert (early["at"], early["count"]) == ("2026-11-22T12:00:00Z", 3)
        assert early["data"]["instances"] == ["pod-0", "pod-1", "pod-2"]

    def test_what_begins_and_ends_knows_how_long_it_lasted(self, service: Service) -> None:
        moved(service, "open", 0)
        moved(service, "closed", 252)

        assert [each["lasted_seconds"] for each in told(service.environment)] == [None, 252.0]

    def test_switches_say_who_and_why(self, place: Environment) -> None:
        with clock.use(lambda: at(10)):
            flag = make.engaged(place, "read-only", kind="read_only")
        with clock.use(lambda: at(70)):
            degradation.end_flag(
                flag.pk, version=flag.version, reason="it is back", actor=make.actor(place)
            )

        ended, engaged = told(place, kind="flag")

        assert (engaged["text"], engaged["reason"]) == (
            "Flag read-only engaged.",
            "primary failing over",
        )
        assert (ended["text"], ended["reason"]) == ("Flag read-only ended.", "it is back")
        assert engaged["actor"]
        assert engaged["lasted_seconds"] == 60.0
        assert engaged["url"] == f"/admin/degradation/flag/{flag.pk}/change/"

    def test_what_a_revision_changed_together_is_one_moment(self, place: Environment) -> None:
        with clock.use(lambda: at(10)):
            make.config("retry", make.scope(place, make.dependency(place, "bank")), attempts=2)

        (moment,) = told(place, kind="revision")

        assert moment["data"]["revision"] > 0
        assert "bank" in moment["text"]
        assert moment["url"].startswith("/admin/publication/revision/")

    def test_checks_alerts_and_marks(self, place: Environment) -> None:
        check = make.check(place, name="database")
        Transition.objects.create(
            subject=check, at=at(5), from_status="unknown", to_status="down", detail="refused"
        )
        alert = make.alert(make.alert_rule(place), "checkout → bank")
        AlertTransition.objects.create(alert=alert, at=at(6), to_state="firing", value=0.5)
        with clock.use(lambda: at(7)):
            make.client(place).post("/api/v1/markers", {"title": "checkout 2.4", "version": "2.4"})

        mark, fired, down = told(place, kind="health,alert,marker")

        assert down["text"] == "Check database is down."
        assert fired["text"].startswith("Alert ")
        assert mark["text"] == "Deploy: checkout 2.4"
        assert mark["data"]["version"] == "2.4"


class TestWhichAreTold:
    def test_of_one_service_and_of_one_dependency(self, service: Service) -> None:
        place = service.environment
        moved(service, "open", 1)
        moved(service, "open", 2, dependency="bank")
        moved(make.service(place, "search"), "open", 3)

        assert len(told(place)) == 3
        assert len(told(place, service="checkout")) == 2
        assert len(told(place, dependency="payments-api")) == 2
        assert len(told(place, service="search", dependency="bank")) == 0

    def test_what_holds_everywhere_concerns_each_service(self, service: Service) -> None:
        place = service.environment
        with clock.use(lambda: at(10)):
            make.engaged(place, "everywhere")
            make.engaged(place, "of-search", of=make.service(place, "search"))

        assert texts(place, service="checkout", kind="flag") == ["Flag everywhere engaged."]

    def test_of_a_time(self, service: Service) -> None:
        for seconds in (0, 10, 20):
            moved(service, "open", seconds * 10)
        span = {"since": "2026-11-22T12:01:40Z", "until": "2026-11-22T12:03:20Z"}

        assert [each["at"] for each in told(service.environment, **span)] == [
            "2026-11-22T12:01:40Z"
        ]

    @pytest.mark.parametrize(
        "query",
        [
            {"kind": "weather"},
            {"since": "yesterday"},
            {"since": "2026-11-23T00:00:00Z", "until": "2026-11-22T00:00:00Z"},
            {"since": "2020-01-01T00:00:00Z"},
            {"color": "red"},
            {"limit": "0"},
        ],
        ids=lambda query: next(iter(query)),
    )
    def test_what_cannot_be_meant_is_refused(
        self, place: Environment, query: dict[str, str]
    ) -> None:
        answer = make.client(place).get(URL, query)

        assert answer.status_code == 400
        assert answer.json()["errors"]


class TestPages:
    def test_pages_together_are_the_whole(self, service: Service) -> None:
        for number in range(25):
            moved(service, "open", number * 30, on=f"pod-{number}")
        api, found = make.client(service.environment), []
        address: str | None = f"{URL}?limit=7"
        while address:
            page = api.get(address).json()
            found += [each["at"] for each in page["results"]]
            address = page["next"]

        assert len(found) == len(set(found)) == 25
        assert found == sorted(found, reverse=True)

    def test_moments_of_one_instant_are_not_torn_apart(self, service: Service) -> None:
        for number in range(5):
            moved(service, "open", 0, dependency=f"dependency-{number}")

        answer = make.client(service.environment).get(URL, {"limit": 2}).json()

        assert (len(answer["results"]), answer["next"]) == (5, None)

    def test_more_than_is_read_at_a_time_is_found_on_later_pages(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from apps.core import moments

        monkeypatch.setattr(moments, "READ", 4)
        for number in range(10):
            moved(service, "open", number * 30)
        for number in range(6):  # all at once
            moved(service, "open", 400, dependency=f"dependency-{number}")
        api, found = make.client(service.environment), []
        address: str | None = URL
        while address:
            page = api.get(address).json()
            found += [
                each["at"] for each in page["results"] if not each["dependency"].endswith("y")
            ]
            address = page["next"]

        assert len({each for each in found if each != "2026-11-22T12:06:40Z"}) == 10

    def test_as_many_queries_for_much_as_for_little(self, service: Service) -> None:
        def queries(api: Any) -> int:
            with CaptureQueriesContext(connection) as made:
                assert api.get(URL).status_code == 200
            return len(made)

        moved(service, "open", 0)
        api = make.client(service.environment)
        api.get(URL)  # whose token is noted as used, once
        few = queries(api)
        for number in range(30):
            moved(make.service(service.environment), "open", number)

        assert queries(api) == few < 20


class TestWhoMayKnow:
    def test_nothing_of_another_environment(self, service: Service) -> None:
        moved(service, "open", 0)

        assert told(make.environment("staging")) == []

    def test_a_services_token_sees_its_own(self, service: Service) -> None:
        place = service.environment
        moved(service, "open", 0)
        moved(make.service(place, "search"), "open", 1)
        with clock.use(lambda: at(10)):
            make.engaged(place, "everywhere")

        answer = make.client(of=service, scopes=["config:read"]).get(URL)

        assert [each["service"] for each in answer.json()["results"]] == ["checkout"]

    def test_scope(self, place: Environment) -> None:
        assert make.client(place, scopes=["wall:read"]).get(URL).status_code == 403


class TestMarkdown:
    def test_it_is_a_table_oldest_first_whose_texts_break_nothing(self, service: Service) -> None:
        place = service.environment
        moved(service, "open", 0)
        moved(service, "closed", 252)
        Marker.objects.create(
            environment=place, kind="deploy", title="a|b <b>*x*", at=at(5), created_at=at(5)
        )

        answer = make.client(place).get(f"{URL}/markdown")

        assert answer["Content-Type"] == "text/markdown; charset=utf-8"
        lines = answer.content.decode().splitlines()
        assert lines[0] == "# Timeline of production"
        assert "n = 3" in lines[2]
        first, second, _third = lines[-3:]
        assert first.startswith("| 2026-11-22 12:00:00 | The breaker of checkout")
        assert "| 4 min 12 s |" in first
        assert r"a\|b \<b\>\*x\*" in second


class TestPage:
    @pytest.fixture
    def browser(self, place: Environment) -> Client:
        return make.browser(make.member(place, "viewer"))

    def test_it_shows_links_and_takes_filters_from_the_address(
        self, browser: Client, service: Service
    ) -> None:
        moved(service, "open", 0)
        make.dependency(service.environment, "payments-api")

        page = browser.get(
            "/admin/timeline/", {"service": "checkout", "kind": "breaker", "span": "6h"}
        )

        assert page.status_code == 200
        text = page.content.decode()
        assert "The breaker of checkout → payments-api is open on a." in text
        assert 'value="breaker" checked' in text
        assert "timeline/markdown?environment=production&amp;service=checkout" in text

    def test_empty_it_says_how_to_mark(self, browser: Client) -> None:
        assert "Nothing happened in this time" in browser.get("/admin/timeline/").content.decode()

    @pytest.mark.parametrize(
        "query",
        [{"span": "9y"}, {"since": "x"}, {"environment": "nowhere"}, {"service": "No!"},
         {"since": "2026-11-23T00:00:00Z", "until": "2026-11-22T00:00:00Z"},
         {"since": "2026-11-22T00:00:00"}],
        ids=lambda query: "-".join(query),
    )  # fmt: skip
    def test_what_makes_no_sense_is_not_there(self, browser: Client, query: dict[str, str]) -> None:
        assert browser.get("/admin/timeline/", query).status_code == 404


class TestDeadLetters:
    def test_many_in_a_minute_are_a_spike(self, service: Service) -> None:
        with clock.use(lambda: at(60)):
            letters = make.letters(service, *(f"order-{number}" for number in range(12)))

        (moment,) = told(service.environment, kind="dead_letters")

        assert (moment["count"], moment["service"]) == (12, "checkout")
        assert moment["url"] == f"/admin/deadletters/group/{letters[0].group_id}/change/"


def test_dependency_of_a_check_is_told(place: Environment) -> None:
    check = make.check(place, dependency=make.dependency(place, "bank"))
    Transition.objects.create(subject=check, at=at(5), from_status="up", to_status="down")

    (moment,) = told(place, kind="health", dependency="bank")

    assert moment["dependency"] == "bank"
