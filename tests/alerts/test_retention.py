"""What is over goes in its time, and what is not over never does."""

from datetime import timedelta

import pytest

from apps.alerts import services
from apps.alerts.models import Alert, Engagement, Notification, Silence
from apps.core import clock
from tests import make
from tests.alerts.test_sending import fire_of, resolve

pytestmark = pytest.mark.django_db


def prune(*, days: int) -> None:
    later = clock.now() + timedelta(days=days)
    with clock.use(lambda: later):
        services.prune()


def test_a_resolved_alert_goes_with_what_was_done_because_of_it() -> None:
    action = make.action()
    resolve(fire_of(action.rule))

    prune(days=399)
    assert (Alert.objects.count(), Engagement.objects.count()) == (1, 1)

    prune(days=401)
    assert (Alert.objects.count(), Engagement.objects.count()) == (0, 0)


def test_an_alert_that_fires_stays_however_old_it_is() -> None:
    make.alert()

    prune(days=4_000)

    assert Alert.objects.count() == 1


def test_a_message_goes_once_it_is_finished_and_old() -> None:
    channel = make.channel()
    fire_of(make.alert_rule(channel.environment))
    waiting = Notification.objects.get()

    prune(days=4_000)
    assert Notification.objects.filter(pk=waiting.pk).exists()

    Notification.objects.update(status="sent", finished_at=clock.now())
    prune(days=91)
    assert not Notification.objects.exists()


def test_silences_go_long_after_their_end() -> None:
    make.silence()

    prune(days=500)

    assert not Silence.objects.exists()
