"""The console pages of flags: what they show, what they change, and what they refuse."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from apps.audit.models import Entry
from apps.degradation.models import Flag
from apps.publication.models import Revision
from tests import make


def page(flag: Flag, name: str) -> str:
    return reverse(f"admin:degradation_flag_{name}", args=[flag.pk])


def post(client: Client, flag: Flag, name: str, **values: Any) -> Any:
    return client.post(page(flag, name), {"version": flag.version, **values})


@pytest.mark.django_db
class TestFlagPages:
    def test_engage_through_the_service(self) -> None:
        flag = make.flag(key="read-only")

        answer = post(make.browser(), flag, "engage", lease="900", reason="failing over")

        assert answer.status_code == 302
        flag.refresh_from_db()
        assert flag.enabled
        assert Entry.objects.get().action == "flag.engaged"
        assert not LogEntry.objects.exists()

    def test_a_post_that_does_not_say_what_was_looked_at_changes_nothing(self) -> None:
        flag = make.flag(key="read-only")
        values = {"lease": "900", "reason": "failing over"}

        answer = make.browser().post(page(flag, "engage"), values)

        assert answer.status_code == 422
        assert "This page is incomplete" in answer.content.decode()
        assert not Flag.objects.get().enabled

    def test_confirm_page_says_what_it_hits(self) -> None:
        flag = make.flag()
        service = make.service(flag.environment)
        make.instance(service)
        make.instance(service, ago=600)

        text = make.browser().get(page(flag, "engage")).content.decode()

        assert "1 service, 1 instance, 1 silent" in text

    def test_confirm_page_does_not_count_what_is_long_gone(self) -> None:
        flag = make.flag()
        make.instance(make.service(flag.environment), ago=2 * 86_400)

        text = make.browser().get(page(flag, "engage")).content.decode()

        assert "1 service, 0 instances, 0 silent" in text

    def test_read_only_says_what_it_hits_of_the_service_that_is_chosen(self) -> None:
        service = make.service()
        make.instance(service)
        make.instance(make.service(service.environment))
        address = reverse("admin:degradation_flag_read-only")

        text = make.browser().get(address, {"service": service.pk}).content.decode()

        assert "1 service, 1 instance, 0 silent" in text

    def test_refusal_is_shown_and_nothing_is_written(self) -> None:
        flag = make.flag()
        client = make.browser()

        answer = post(client, flag, "engage", lease="900", reason="  ")

        assert answer.status_code == 422
        assert "required" in answer.content.decode()
        assert not list(get_messages(answer.wsgi_request))
        assert not Entry.objects.exists()
        assert not LogEntry.objects.exists()
        assert not Revision.objects.exists()

    def test_stale_page_shows_the_newer_state(self) -> None:
        flag = make.flag(kind="custom")
        Flag.objects.filter(pk=flag.pk).update(version=7, percentage=10)

        answer = post(make.browser(), flag, "engage", lease="900", reason="slow")

        text = answer.content.decode()
        assert answer.status_code == 422
        assert "changed after you looked" in text
        assert 'value="7"' in text
        assert not Entry.objects.exists()

    def test_list_and_object_pages(self) -> None:
        flag = make.engaged(key="read-only")
        client = make.browser()

        listed = client.get(reverse("admin:degradation_flag_changelist")).content.decode()
        shown = client.get(page(flag, "change")).content.decode()

        assert "ENGAGED" in listed
        assert "primary failing over" in listed
        assert page(flag, "extend") in shown
        assert page(flag, "end") in shown
        assert page(flag, "engage") not in shown

    def test_engage_read_only_makes_the_flag(self) -> None:
        environment = make.environment()
        values = {"environment": environment.pk, "lease": "0", "reason": "failing over"}

        answer = make.browser().post(reverse("admin:degradation_flag_read-only"), values)

        assert answer.status_code == 302
        flag = Flag.objects.get()
        assert (flag.key, flag.enabled, flag.expires_at) == ("read-only", True, None)
