"""Alerts in the console: what people see of them and do there."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.alerts import services
from apps.alerts.models import (
    Action,
    Alert,
    AlertEnvironmentSettings,
    Channel,
    Rule,
    Silence,
)
from tests import make
from tests.alerts.receivers import hook
from tests.alerts.test_sending import fire_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def console() -> Client:
    return make.browser()


def address(page: str, *of: Any) -> str:
    return reverse(f"admin:alerts_{page}", args=of)


def post(client: Client, page: str, row: Any, values: dict[str, Any], **options: Any) -> Any:
    """Fill in a page of an object as it is now."""
    row.refresh_from_db()
    return client.post(address(page, row.pk), {"version": row.version, **values}, **options)


def test_an_alert_shows_its_timeline_and_whom_to_ask(console: Client) -> None:
    alert = fire_of(make.action().rule)
    post(console, "alert_acknowledge", alert, {"note": "on it"})

    page = console.get(address("alert_change", alert.pk)).content.decode()

    assert "firing" in page
    assert "lean: would have engaged" in page
    assert "acknowledged by" in page
    assert "50 % · n = 40" in page


def test_an_alert_is_silenced_from_its_page(console: Client) -> None:
    alert = make.alert()

    post(console, "alert_silence", alert, {"lease": "3600", "reason": "known"})

    assert Silence.objects.get().matchers == [{"name": "rule", "value": alert.key}]


def test_a_silence_that_means_everything_is_refused(console: Client) -> None:
    place = make.environment()

    answer = console.post(
        address("silence_new"), {"environment": place.pk, "lease": "3600", "reason": "x"}
    )

    assert answer.status_code == 422
    assert not Silence.objects.exists()


def test_a_rule_is_changed_and_restored(console: Client) -> None:
    place = make.environment()
    services.ensure_defaults(place.pk)
    rule = Rule.objects.get(environment=place, key="bulkhead-full")
    edit = {
        "severity": "info",
        "threshold": "99",
        "for_seconds": "0",
        "keep_firing_seconds": "0",
        "min_samples": "0",
        "window_seconds": "60",
        "no_data": "ok",
        "version": "1",
    }

    console.post(address("rule_edit", rule.pk), edit)
    rule.refresh_from_db()
    assert (rule.threshold, rule.enabled) == (99.0, False)

    console.post(address("rule_restore", rule.pk), {"version": "2"})
    rule.refresh_from_db()
    assert (rule.threshold, rule.enabled) == (10.0, True)


def test_the_test_button_says_what_happened(console: Client) -> None:
    with hook(500) as received:
        channel = make.channel(address=received.address)
        wrong = post(console, "channel_test", channel, {"note": ""})
        right = post(console, "channel_test", channel, {"note": ""}, follow=True)

    assert "It was not delivered: HTTP 500." in wrong.content.decode()
    assert "took the message" in right.content.decode()


def test_an_address_is_never_shown_again(console: Client) -> None:
    secret = "correct-horse-battery"
    channel = make.channel(address=f"http://ana:{secret}@127.0.0.1:9/{secret}")

    pages = [
        console.get(address("channel_change", channel.pk)),
        console.get(address("channel_edit", channel.pk)),
        console.get(address("channel_changelist")),
    ]

    assert all(page.status_code == 200 for page in pages)
    assert not any(secret in page.content.decode() for page in pages)


def test_a_channel_keeps_its_address_where_none_is_given(console: Client) -> None:
    channel = make.channel()

    post(console, "channel_edit", channel, {"address": "", "wants_ends": "on"})

    after = Channel.objects.get()
    assert after.sealed_address == channel.sealed_address
    assert after.wants_ends


def test_an_action_says_whom_it_hits_and_is_armed_with_a_reason(console: Client) -> None:
    action = make.action()
    make.service(action.environment)
    edit = {"lease_seconds": "60", "max_lease_seconds": "600", "mode": "armed"}

    page = console.get(address("action_edit", action.pk)).content.decode()
    refused = post(console, "action_edit", action, edit)
    post(console, "action_edit", action, edit | {"reason": "seen enough"})

    assert "1 service, 0 instances" in page
    assert refused.status_code == 422
    assert Action.objects.get().mode == "armed"


def test_actions_are_frozen_and_thawed(console: Client) -> None:
    place = make.environment()
    services.ensure_defaults(place.pk)

    switch = AlertEnvironmentSettings.objects.get(pk=place.pk)
    post(console, "alertenvironmentsettings_freeze", switch, {"reason": "drill"})
    assert AlertEnvironmentSettings.objects.get(pk=place.pk).frozen

    post(console, "alertenvironmentsettings_thaw", switch, {"reason": "over"})
    assert not AlertEnvironmentSettings.objects.get(pk=place.pk).frozen


@pytest.mark.parametrize(
    "page",
    [
        *("alert", "rule", "silence", "channel", "notification", "action", "engagement"),
        "alertenvironmentsettings",
    ],
)
def test_every_list_has_few_queries_and_an_empty_one_is_friendly(
    console: Client, page: str
) -> None:
    console.get(address(f"{page}_changelist"))
    with CaptureQueriesContext(connection) as few:
        assert console.get(address(f"{page}_changelist")).status_code == 200
    for _ in range(4):
        channel = make.channel()
        action = make.action(make.alert_rule(channel.environment))
        fire_of(action.rule)
        make.silence(channel.environment)
        services.ensure_defaults(channel.environment_id)

    with CaptureQueriesContext(connection) as many:
        assert console.get(address(f"{page}_changelist")).status_code == 200

    assert Alert.objects.count() == 4
    assert len(many) <= len(few) + 4
