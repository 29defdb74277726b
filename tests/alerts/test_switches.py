"""People hear of every flip, of its end, and five minutes before; each exactly once."""

from datetime import timedelta

import pytest

from apps.alerts.models import Channel, Notification
from apps.core import clock
from apps.degradation import services as degradation
from apps.fleet.models import Environment
from tests import make
from tests.alerts.world import judge

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def channel() -> Channel:
    channel = make.channel(wants_switches=True, wants_endings=True, wants_ends=True)
    judge(channel.environment)  # what was switched before nobody is told of
    return channel


def look(where: Environment, *, after: timedelta = timedelta(seconds=5)) -> None:
    judge(where, clock.now() + after)


def told() -> list[str]:
    return list(Notification.objects.order_by("pk").values_list("about", flat=True))


def test_a_flag_that_is_engaged_and_ended_is_told_once_each(channel: Channel) -> None:
    flag = make.engaged(channel.environment, "lean")
    look(channel.environment)
    degradation.end_flag(
        flag.pk, version=None, reason="better", actor=make.actor(channel.environment)
    )
    for _ in range(3):
        look(channel.environment)

    assert told() == ["switch", "end"]
    first = Notification.objects.earliest("pk")
    assert "flag lean engaged by ana" in first.title
    assert first.document["event"]["reason"] == "primary failing over"


def test_an_override_is_told_too(channel: Channel) -> None:
    make.override(make.scope(dependency=make.dependency(channel.environment)))

    look(channel.environment)

    assert told() == ["switch"]


def test_a_coming_end_is_told_once_and_anew_when_it_was_put_off(channel: Channel) -> None:
    place = channel.environment
    flag = make.engaged(place, lease=HOUR)
    look(place, after=timedelta(minutes=54))
    assert told() == ["switch"]

    look(place, after=timedelta(minutes=56))
    look(place, after=timedelta(minutes=57))
    assert told() == ["switch", "ending"]

    degradation.extend_flag(
        flag.pk, version=None, lease=2 * HOUR, reason="", actor=make.actor(place)
    )
    look(place, after=timedelta(minutes=116))
    assert told() == ["switch", "ending", "switch", "ending"]


def test_a_lease_that_is_over_is_told_as_an_end(channel: Channel) -> None:
    make.engaged(channel.environment, lease=HOUR)
    moment = clock.now() + HOUR
    with clock.use(lambda: moment):
        degradation.end_due_flags()

    look(channel.environment)

    assert told() == ["switch", "end"]


def test_a_short_lease_has_no_coming_end(channel: Channel) -> None:
    make.engaged(channel.environment, lease=timedelta(minutes=2))

    look(channel.environment)

    assert told() == ["switch"]


def test_what_a_channel_does_not_want_it_does_not_get(channel: Channel) -> None:
    Channel.objects.update(wants_switches=False, wants_endings=False)
    make.engaged(channel.environment, lease=timedelta(minutes=4))

    look(channel.environment)

    assert told() == []


def test_what_was_refused_is_no_flip(channel: Channel) -> None:
    make.engaged(channel.environment)
    look(channel.environment)
    api = make.client(channel.environment, scopes=["config:read"])
    flag = make.flag(channel.environment)
    api.post(f"/api/v1/flags/{flag.pk}/engage", {"reason": "x"}, headers={"If-Match": '"1"'})

    look(channel.environment)

    assert told() == ["switch"]
