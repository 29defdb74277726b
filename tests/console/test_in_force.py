"""What was in force: a story is told, and asked for at instants within it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from apps.core import clock
from apps.degradation import services as degradation
from apps.fleet.models import Environment, Service
from apps.policies import services as policies
from apps.publication.selectors import newest_number
from apps.publication.services import current_epoch
from tests import make
from tests.telemetry.arrivals import ingested

pytestmark = pytest.mark.django_db

INSTANCE = "6a9d1a6e-6d3c-4d55-9a0b-3f6e8e8f6a11"
URL = f"/api/v1/instances/{INSTANCE}/in-force"
NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@dataclass
class Story:
    """At 0 it starts; 10 attempts become 5; 20 read-only; 30 the breaker opens; 40 flag ended."""

    place: Environment
    service: Service
    sequence: int = 0

    def asked(self, seconds: float, **query: Any) -> dict[str, Any]:
        given = {"at": clock.rfc3339(at(seconds))} | query
        answer = make.client(self.place).get(URL, given)
        assert answer.status_code == 200, answer.content
        return dict(answer.json())

    def report(self, seconds: float, *, state: str = "closed", **members: Any) -> None:
        """It applies what is published, half a second later."""
        self.sequence += 1
        breaker = {"state": state, "since": clock.rfc3339(at(seconds))}
        body = {
            "instance": INSTANCE,
            "sequence": self.sequence,
            "epoch": str(current_epoch().pk),
            "applied_revision": newest_number(self.place.pk),
            "applied_at": clock.rfc3339(at(seconds)),
            "dependencies": {"payments-api": make.calls(breaker=breaker)},
        }
        with clock.use(lambda: at(seconds)):
            ingested(self.service, make.report(**body | members))


@pytest.fixture
def story() -> Iterator[Story]:
    with clock.use(lambda: at(3_600)):
        place = make.environment("production")
        service = make.service(place, "checkout")
        told = Story(place, service)
        payments = make.dependency(place, "payments-api")
        told.report(0, epoch=None, applied_revision=None, applied_at=None)
        everywhere = make.scope(place, payments)
        with clock.use(lambda: at(10)):
            make.config("retry", everywhere, attempts=5)
        told.report(10.5)
        with clock.use(lambda: at(20)):
            flag = make.engaged(place, "read-only", lease=timedelta(seconds=300))
        told.report(20.5)
        told.report(30, state="open")
        with clock.use(lambda: at(40)):
            degradation.end_flag(
                flag.pk, version=flag.version, reason="over", actor=make.actor(place)
            )
        told.report(40.5, state="open")
        with clock.use(lambda: at(50)):
            policies.set_config(
                "retry", scope=everywhere, values={"attempts": 2}, actor=make.actor(place)
            )
        yield told  # it has not applied the last


def attempts(answer: dict[str, Any]) -> list[tuple[Any, str]]:
    (calls,) = answer["dependencies"]
    return [
        (value["value"], value["level"])
        for value in calls["values"]
        if (value["pattern"], value["key"]) == ("retry", "attempts")
    ]


def test_before_it_ran_anything_it_was_on_defaults(story: Story) -> None:
    told = story.asked(5)

    assert (told["known"], told["revision"]) == ("defaults", None)


def test_a_revision_holds_from_when_it_was_applied_not_published(story: Story) -> None:
    assert story.asked(10.4)["known"] == "defaults"
    assert attempts(story.asked(10.5)) == [(5, "dependency")]


def test_flags_hold_between_what_begins_and_ends_them(story: Story) -> None:
    engaged = {seconds: list(story.asked(seconds)["flags"]) for seconds in (19, 21, 40.4, 40.5)}

    assert engaged == {19: [], 21: ["read-only"], 40.4: ["read-only"], 40.5: []}


def test_a_lease_ends_by_the_clock_whatever_was_applied(story: Story) -> None:
    with clock.use(lambda: at(100)):
        make.engaged(story.place, "short", lease=timedelta(seconds=60))
    story.report(101)

    assert list(story.asked(159)["flags"]) == ["short"]
    later = story.asked(161)
    assert (list(later["flags"]), list(later["over"])) == ([], ["short"])


def test_the_breaker_stands_as_it_last_moved(story: Story) -> None:
    (before,) = story.asked(29)["dependencies"]
    (after,) = story.asked(31)["dependencies"]

    assert (before["breaker"]["state"], before["breaker"]["since"]) == ("closed", None)
    assert after["breaker"]["state"] == "open"
    assert after["breaker"]["since"] == clock.rfc3339(at(30))


def test_what_was_published_and_never_applied_did_not_hold(story: Story) -> None:
    assert attempts(story.asked(3_000)) == [(5, "dependency")]


def test_what_it_refused_is_told(story: Story) -> None:
    refused = [{"path": "flags.x", "revision": 8, "code": "unknown", "detail": "no such kind"}]
    story.report(60, refused=refused)

    assert story.asked(61)["refused"] == refused
    assert story.asked(59)["refused"] == []


def test_the_epoch_of_another_database_is_not_guessed(story: Story) -> None:
    story.report(60, state="open", epoch=str(uuid4()))

    told = story.asked(61)

    assert (told["known"], told["flags"]) == ("another_epoch", {})
    assert told["dependencies"][0]["breaker"]["state"] == "open"


def test_longer_ago_than_is_kept(story: Story) -> None:
    assert story.asked(-91 * 86_400)["known"] == "too_long_ago"


class TestWhoMayKnow:
    def test_nobody_of_another_environment(self, story: Story) -> None:
        api = make.client(make.environment("staging"))

        assert api.get(URL).status_code == 404

    def test_a_services_token_of_its_own_instances(self, story: Story) -> None:
        other = make.service(story.place, "search")

        own = make.client(of=story.service, scopes=["config:read"])
        foreign = make.client(of=other, scopes=["config:read"])

        assert own.get(URL).status_code == 200
        assert foreign.get(URL).status_code == 404

    def test_nobody_has_heard_of_it(self, story: Story) -> None:
        api = make.client(story.place)

        assert api.get(URL.replace(INSTANCE, str(uuid4()))).status_code == 404
        assert api.get(URL, {"at": "soon"}).status_code == 400


class TestPage:
    def test_it_shows_the_same_and_is_linked_from_the_timeline(self, story: Story) -> None:
        browser = make.browser(make.member(story.place, "viewer"))

        page = browser.get("/admin/in-force/", {"instance": INSTANCE, "at": "2026-11-22T12:00:31"})
        timeline = browser.get("/admin/timeline/", {"span": "6h"})

        assert page.status_code == 200
        text = page.content.decode()
        assert "read-only" in text
        assert "retry.attempts" in text
        assert "open since" in " ".join(text.split())
        assert f"/admin/in-force/?instance={INSTANCE}" in timeline.content.decode()

    @pytest.mark.parametrize(
        "query",
        [{"instance": "x"}, {"instance": str(uuid4())}, {"instance": INSTANCE, "at": "soon"}],
        ids=range(3),
    )
    def test_what_makes_no_sense_is_not_there(self, story: Story, query: dict[str, str]) -> None:
        browser = make.browser(make.member(story.place, "viewer"))

        assert browser.get("/admin/in-force/", query).status_code == 404

    def test_without_a_choice_it_says_what_to_do(self, story: Story) -> None:
        browser = make.browser(make.member(story.place, "viewer"))

        assert "Choose an instance" in browser.get("/admin/in-force/").content.decode()
