"""Messages reach real receivers, once; those that fail are tried again, those that hang wait."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection

from apps.alerts import services
from apps.alerts.dispatch import Dispatcher
from apps.alerts.models import Alert, Channel, Notification, Rule
from apps.alerts.rules import attempts
from apps.alerts.rules.kinds import Reading
from apps.alerts.rules.states import Memory
from apps.alerts.services import judging, sending
from apps.alerts.services.sending import Claim
from apps.alerts.transports import Receipt, carry
from apps.audit.models import Entry
from apps.core import clock
from apps.core.errors import RuleBroken
from tests import make
from tests.alerts.receivers import hook, hung, mailbox

pytestmark = pytest.mark.django_db


def resolve(alert: Alert) -> None:
    """Close an alert, which is told to those who were told of it."""
    judging.close(Alert.objects.select_related("environment", "rule").get(pk=alert.pk), "over")


def fire_of(rule: Rule, subject: str = "checkout → payments-api") -> Alert:
    """An alert of the rule that begins to fire, with what follows from it."""
    alert = make.alert(rule, subject, state="pending", fired_at=None)
    now = clock.now()
    assert judging.move(alert, Memory("firing", now, now), Reading(0.5, 40))
    return alert


def fire(channel: Channel) -> Alert:
    """An alert that begins to fire, so that the channel is to be told."""
    return fire_of(make.alert_rule(channel.environment))


def send_due(*, after: float = 0) -> None:
    """One turn of sending, `after` seconds from now, in this thread."""
    moment = clock.now() + timedelta(seconds=after)
    with clock.use(lambda: moment):
        for claim in sending.claim_due():
            sending.settle(claim, carry(claim.kind, claim.address, claim.message))


class TestWebhook:
    def test_a_receiver_that_fails_twice_gets_it_the_third_time(self) -> None:
        with hook(500, 503) as received:
            fire(make.channel(address=received.address))
            for seconds in (0, 6, 30):
                send_due(after=seconds)

        row = Notification.objects.get()
        assert (row.status, row.attempts) == ("sent", 3)
        assert [each["outcome"] for each in row.log] == ["HTTP 500", "HTTP 503", "delivered"]
        assert len(received.got) == 3

    def test_nothing_is_tried_before_its_time(self) -> None:
        with hook(500) as received:
            fire(make.channel(address=received.address))
            send_due()
            send_due(after=4)

        assert len(received.got) == 1

    def test_what_was_confirmed_is_never_sent_again(self) -> None:
        with hook() as received:
            fire(make.channel(address=received.address))
            send_due()
            send_due(after=9_999)

        assert len(received.got) == 1

    def test_a_process_that_died_with_a_message_in_hand_leaves_it_to_the_next(self) -> None:
        with hook() as received:
            fire(make.channel(address=received.address))
            (lost,) = sending.claim_due()  # and never settles it
            send_due()
            assert received.got == []

            send_due(after=attempts.LEASE.total_seconds() + 1)

        assert len(received.got) == 1
        assert Notification.objects.get(pk=lost.notification_id).attempts == 2

    def test_the_body_is_alertmanagers_version_4(self) -> None:
        with hook() as received:
            alert = fire(make.channel(address=received.address))
            send_due()

        (body,) = received.got
        assert (body["version"], body["status"], body["about"]) == ("4", "firing", "alert")
        assert body["receiver"] == Channel.objects.get().name
        (one,) = body["alerts"]
        assert one["labels"]["alertname"] == alert.key
        assert (one["value"], one["unit"], one["samples"]) == (0.5, "share", 40)
        assert one["startsAt"].endswith("Z")

    @pytest.mark.parametrize("status", [404, 410])
    def test_a_receiver_that_is_gone_disables_its_channel_with_a_word(self, status: int) -> None:
        with hook(status) as received:
            channel = make.channel(address=received.address)
            fire(channel)
            send_due()

        channel.refresh_from_db()
        assert not channel.enabled
        assert f"HTTP {status}" in channel.disabled_reason
        assert Notification.objects.get().status == "failed"
        assert Entry.objects.filter(action="channel.disabled").exists()

    def test_it_is_given_up_in_the_end(self) -> None:
        channel = make.channel()  # nobody listens there
        fire(channel)
        for _ in range(attempts.MOST_ATTEMPTS):
            send_due(after=100_000)
            Notification.objects.update(due_at=clock.now())

        row = Notification.objects.get()
        assert (row.status, row.attempts) == ("failed", attempts.MOST_ATTEMPTS)

    def test_redirects_are_not_followed(self) -> None:
        with hook(302) as received:
            fire(make.channel(address=received.address))
            send_due()

        assert Notification.objects.get().log[0]["outcome"] == "HTTP 302"


class TestMail:
    def test_it_arrives_with_what_is_the_matter(self) -> None:
        with mailbox() as received:
            alert = fire(make.channel(address=received.address, kind="mail"))
            send_due()

        ((recipients, subject, text),) = received.got
        assert recipients == ["ops@example.org"]
        assert alert.key in subject
        assert "50 % of 40 samples; threshold 5 %" in text

    def test_a_server_that_is_away_is_said(self) -> None:
        address = "mailto://127.0.0.1:9?to=ops@example.org&from=holdfast@example.org"
        fire(make.channel(address=address, kind="mail"))

        send_due()

        row = Notification.objects.get()
        assert (row.status, row.attempts) == ("waiting", 1)
        assert row.log[0]["outcome"] != "delivered"


class TestAddresses:
    SECRET = "correct-horse-battery"

    @pytest.mark.parametrize(
        ("kind", "address"),
        [
            ("webhook", "ftp://example.org/"),
            ("webhook", "https://"),
            ("webhook", "http://[::1"),
            ("mail", "https://example.org"),
            ("apprise", "syslog://"),
            ("apprise", "no-such-scheme://x"),
            ("apprise", "http://example.org"),
        ],
    )
    def test_one_that_nothing_can_be_sent_to_is_refused(self, kind: str, address: str) -> None:
        with pytest.raises(RuleBroken) as refusal:
            make.channel(address=address, kind=kind)

        assert "address" in refusal.value.errors

    @pytest.mark.parametrize(
        ("kind", "address"),
        [
            ("webhook", f"http://ana:{SECRET}@127.0.0.1:9/{SECRET}?token={SECRET}"),
            ("mail", f"mailto://ana:{SECRET}@127.0.0.1:9?to=ops@example.org&from=hf@example.org"),
            ("apprise", f"json://ana:{SECRET}@127.0.0.1:9/{SECRET}"),
        ],
    )
    def test_passwords_are_in_no_row_and_no_error(self, kind: str, address: str) -> None:
        channel = make.channel(address=address, kind=kind)
        fire(channel)
        send_due()

        rows = [
            *Channel.objects.values_list(),
            *Notification.objects.values_list(),
            *Entry.objects.values_list("text"),
        ]
        assert self.SECRET not in repr(rows)
        assert Notification.objects.get().log[0]["outcome"] != "delivered"


class TestTheTestButton:
    def test_says_that_it_was_delivered(self) -> None:
        with hook() as received:
            channel = make.channel(address=received.address)

            row = services.try_channel(channel.pk, actor=make.actor(channel.environment))

        assert (row.status, row.log[0]["outcome"]) == ("sent", "delivered")
        assert received.got[0]["about"] == "test"

    def test_says_what_went_wrong_and_does_not_try_again(self) -> None:
        with hook(500) as received:
            channel = make.channel(address=received.address)

            row = services.try_channel(channel.pk, actor=make.actor(channel.environment))

        assert (row.status, row.log[0]["outcome"]) == ("failed", "HTTP 500")


class TestSilence:
    def test_holds_back_the_message_and_nothing_else(self) -> None:
        with hook() as received:
            channel = make.channel(address=received.address)
            make.silence(channel.environment)
            alert = fire(channel)
            send_due()
            assert (received.got, alert.state) == ([], "firing")

            resolve(alert)
            send_due()

        assert received.got == []  # of what nobody heard, nobody hears the end
        assert list(alert.transitions.values_list("to_state", flat=True)) == ["firing", "resolved"]

    def test_what_still_fires_when_it_ends_is_told(self) -> None:
        with hook() as received:
            channel = make.channel(address=received.address)
            silence = make.silence(channel.environment)
            fire(channel)
            send_due()

            services.end_silence(
                silence.pk, version=1, reason="done", actor=make.actor(channel.environment)
            )
            send_due()

        assert len(received.got) == 1

    def test_of_other_alerts_it_says_nothing(self) -> None:
        with hook() as received:
            channel = make.channel(address=received.address)
            make.silence(channel.environment, severity="info")
            fire(channel)
            send_due()

        assert len(received.got) == 1

    def test_a_channel_hears_the_end_of_what_it_was_told(self) -> None:
        with hook() as received:
            alert = fire(make.channel(address=received.address))
            resolve(alert)
            send_due()
            send_due()

        assert [body["status"] for body in received.got] == ["firing", "resolved"]


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_of_two_processes_one_claims_a_message(self) -> None:
        fire(make.channel())
        barrier = Barrier(2)

        def claim(_number: int) -> list[Claim]:
            barrier.wait()
            try:
                return sending.claim_due()
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            claims = list(pool.map(claim, range(2)))

        assert sorted(map(len, claims)) == [0, 1]

    def test_a_receiver_that_hangs_delays_no_other(self) -> None:
        with hung() as silent, hook() as received:
            place = make.environment()
            fire(make.channel(place, silent))
            fire(make.channel(place, received.address))
            dispatcher, began = Dispatcher(), time.monotonic()

            dispatcher.run(threading.Event())
            wait_for(lambda: len(received.got) >= 1)

            assert time.monotonic() - began < 4  # the hung one takes five
            dispatcher.finish()
        statuses = Notification.objects.filter(attempts=1).values_list("status", flat=True)
        assert sorted(statuses) == ["sent", "waiting"]


def wait_for(is_so: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(200):
        if is_so():
            return
        done.wait(0.02)
    raise AssertionError("it did not happen")


def test_a_late_word_of_delivery_counts() -> None:
    """A process that was taken for dead delivered after all: nobody sends it a third time."""
    fire(make.channel())
    (slow,) = sending.claim_due()
    moment = clock.now() + attempts.LEASE + timedelta(seconds=1)
    with clock.use(lambda: moment):
        (quick,) = sending.claim_due()
    sending.settle(slow, Receipt(True))
    sending.settle(quick, Receipt(False, "HTTP 500", 500))

    assert Notification.objects.get().status == "sent"
