"""The console pages of settings, overrides, presets, effective policies and revisions."""

import html
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.audit.models import Entry
from apps.policies import services
from apps.policies.models import (
    CONFIGS,
    BreakerConfig,
    Config,
    Override,
    RetryConfig,
    TimeoutConfig,
)
from apps.publication.models import Fragment, Revision
from holdfast.spec import PRESETS, Preset
from tests import make

pytestmark = pytest.mark.django_db


ONE_VALUE: dict[str, dict[str, Any]] = {
    "breaker": {"enabled": False},
    "retry": {"attempts": 5},
    "timeout": {"attempt_seconds": 3.0},
    "bulkhead": {"max_concurrent": 3},
    "rate_limit": {"scope": "call"},
    "fallback": {"chain": [{"kind": "queue"}]},
    "recovery": {"rules": [{"match": "critical", "action": "isolate"}]},
    "dead_letter": {"when": "always"},
    "hedge": {"enabled": True},
    "throttle": {"enabled": True},
}


def address(page: str, *args: Any, app: str = "policies") -> str:
    return reverse(f"admin:{app}_{page}", args=args)


def text_of(client: Client, url: str) -> str:
    """The page's words, one space between them."""
    answer = client.get(url)
    assert answer.status_code == 200, url
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


class TestConfigPages:
    @pytest.mark.parametrize("pattern", CONFIGS)
    def test_every_pattern_has_its_pages(self, pattern: str) -> None:
        row = make.config(pattern, **ONE_VALUE[pattern])
        client, model = make.browser(), row._meta.model_name

        for page in ("changelist", "set"):
            text_of(client, address(f"{model}_{page}"))
        for page in ("change", "edit", "clear"):
            text_of(client, address(f"{model}_{page}", row.pk))

    def test_the_list_says_where_and_what(self) -> None:
        place = make.environment()
        at = make.scope(place, make.dependency(place, "bank"), make.service(place, "checkout"))
        make.config(at=at, attempts=7, jitter="none")

        text = text_of(make.browser(), address("retryconfig_changelist"))

        assert "checkout → bank" in text
        assert "attempts 7, jitter none" in text

    def test_the_list_takes_the_same_queries_for_many_rows(self) -> None:
        place = make.environment()
        client = make.browser()
        make.config(at=make.scope(place))
        client.get(address("retryconfig_changelist"))
        with CaptureQueriesContext(connection) as few:
            client.get(address("retryconfig_changelist"))
        for _number in range(10):
            make.config(at=make.scope(place, make.dependency(place)))

        with CaptureQueriesContext(connection) as many:
            client.get(address("retryconfig_changelist"))

        assert len(many) == len(few)

    def test_settings_are_made_through_the_service(self) -> None:
        place = make.environment()
        bank = make.dependency(place, "bank")

        answer = make.browser().post(
            address("breakerconfig_set"),
            {
                "environment": place.pk,
                "dependency": bank.pk,
                "enabled": "false",
                "window": "time",
                "open_seconds": "12.5",
                "trip_on": '["critical"]',
                "reason": "calmer",
            },
        )

        row = BreakerConfig.objects.get()
        assert answer.status_code == 302
        assert row.values == {
            "enabled": False,
            "window": "time",
            "open_seconds": 12.5,
            "trip_on": ["critical"],
        }
        entry = Entry.objects.get(action="config.created")
        assert (entry.reason, entry.revision) == ("calmer", 1)
        assert not LogEntry.objects.exists()

    def test_an_edit_sends_every_field_and_changes_what_differs(self) -> None:
        row = make.config(attempts=5, per_class={"critical": {"retry": False}})
        client = make.browser()
        form = client.get(address("retryconfig_edit", row.pk)).context["form"]
        shown = {field.html_name: field.value() for field in form}

        answer = client.post(
            address("retryconfig_edit", row.pk),
            {name: "" if value is None else value for name, value in shown.items()}
            | {"attempts": "6", "reason": "one more"},
        )

        row.refresh_from_db()
        assert answer.status_code == 302
        assert row.values == {"attempts": 6, "per_class": {"critical": {"retry": False}}}
        assert (row.origins["attempts"]["revision"], row.origins["per_class"]["revision"]) == (2, 1)

    def test_an_emptied_field_inherits(self) -> None:
        row = make.config(attempts=5, jitter="none")

        make.browser().post(
            address("retryconfig_edit", row.pk), {"version": 1, "attempts": "", "jitter": "none"}
        )

        row.refresh_from_db()
        assert row.values == {"jitter": "none"}

    def test_empty_fields_show_what_they_inherit_and_from_where(self) -> None:
        place = make.environment()
        bank = make.dependency(place)
        make.config(at=make.scope(place), attempts=7, jitter="none")
        row = make.config(at=make.scope(place, bank), multiplier=3.0)

        page = make.browser().get(address("retryconfig_edit", row.pk)).content.decode()

        assert 'placeholder="7 (environment)"' in page
        assert 'placeholder="0.1 (library default)"' in page
        assert "inherit: none (environment)" in page

    def test_help_says_meaning_and_range(self) -> None:
        make.environment()

        text = text_of(make.browser(), address("retryconfig_set"))

        assert (
            "Attempts in total, the first one included; 1 never retries. (1 to 20 attempts)" in text
        )

    def test_a_contradiction_is_shown_beside_its_field(self) -> None:
        row = make.config()

        answer = make.browser().post(
            address("retryconfig_edit", row.pk), {"version": 1, "min_seconds": "50"}
        )

        assert answer.status_code == 422
        assert "at most max_seconds" in answer.context["form"].errors["min_seconds"][0]
        assert Revision.objects.count() == 1

    def test_a_contradiction_with_another_pattern_names_it(self) -> None:
        hedged = make.config("hedge", enabled=True)
        row = make.config(at=hedged.holds_in)

        answer = make.browser().post(
            address("retryconfig_edit", row.pk), {"version": 1, "idempotent": "false"}
        )

        assert answer.status_code == 422
        assert answer.context["form"].non_field_errors() == [
            "The settings would contradict each other.",
            "hedge.enabled: For the environment's defaults it needs retry.idempotent: "
            "a hedged call is sent twice.",
        ]

    def test_a_stale_page_shows_the_newer_state_and_writes_nothing(self) -> None:
        row = make.config(attempts=5)
        services.set_config(
            "retry", scope=row.holds_in, values={"attempts": 9}, actor=make.actor(row.environment)
        )

        answer = make.browser().post(
            address("retryconfig_edit", row.pk), {"version": 1, "attempts": "6"}
        )

        assert answer.status_code == 422
        assert "changed after you looked" in answer.content.decode()
        assert RetryConfig.objects.get().values == {"attempts": 9}

    def test_a_new_form_says_what_is_inherited_where_it_was_opened(self) -> None:
        place = make.environment()
        bank, service = make.dependency(place, "bank"), make.service(place, "checkout")
        make.config(at=make.scope(place), attempts=7)
        make.config(at=make.scope(place, bank), base_seconds=2.5, jitter="equal")
        chosen = {"environment": place.pk, "dependency": bank.pk, "service": service.pk}

        form = make.browser().get(address("retryconfig_set"), chosen).context["form"]

        placeholders = [
            form.fields[name].widget.attrs["placeholder"]
            for name in ("attempts", "base_seconds", "multiplier")
        ]
        assert placeholders == ["7 (environment)", "2.5 (dependency)", "2 (library default)"]
        assert form.fields["jitter"].choices[0] == ("", "inherit: equal (dependency)")

    def test_a_new_form_says_what_is_set_there_already(self) -> None:
        row = make.config(attempts=5)

        page = make.browser().get(address("retryconfig_set"), {"environment": row.environment_id})

        assert ("Set there already", "attempts 5") in page.context["facts"]
        assert 'data-preview="facts"' in page.content.decode()  # said anew when one chooses

    def test_a_new_form_tells_nothing_of_an_environment_one_does_not_see(self) -> None:
        bank = make.dependency()
        make.config(attempts=7, at=make.scope(dependency=bank))
        client = make.browser(make.member())
        chosen = {"environment": bank.environment_id, "dependency": bank.pk}

        page = client.get(address("retryconfig_set"), chosen)

        assert page.context["facts"] == []
        assert "7 (" not in page.content.decode()

    def test_a_stale_page_says_beside_each_field_what_it_is_now(self) -> None:
        row = make.config(attempts=5, jitter="none", per_class={"critical": {"retry": False}})
        client = make.browser()
        form = client.get(address("retryconfig_edit", row.pk)).context["form"]
        looked_at = {field.html_name: field.value() or "" for field in form}
        theirs = {"attempts": 9, "jitter": None, "multiplier": 3.0}
        services.set_config(
            "retry", scope=row.holds_in, values=theirs, actor=make.actor(row.environment)
        )

        answer = client.post(
            address("retryconfig_edit", row.pk), looked_at | {"base_seconds": "0.5"}
        )

        errors = {name: text for name, (text,) in answer.context["form"].errors.items()}
        errors.pop("__all__")
        assert errors == {
            "attempts": "It is 9 now.",
            "jitter": "It is empty now.",
            "multiplier": "It is 3 now.",
            "base_seconds": "It is empty now.",
        }

    def test_the_slower_of_two_people_overwrites_nothing_unseen(self) -> None:
        row = make.config(attempts=5)
        ana, ben = make.browser(), make.browser()
        pages = [client.get(address("retryconfig_edit", row.pk)) for client in (ana, ben)]
        forms = [
            {field.html_name: field.value() or "" for field in page.context["form"]}
            for page in pages
        ]

        first = ana.post(address("retryconfig_edit", row.pk), forms[0] | {"attempts": "7"})
        second = ben.post(address("retryconfig_edit", row.pk), forms[1] | {"jitter": "none"})

        assert (first.status_code, second.status_code) == (302, 422)
        assert RetryConfig.objects.get().values == {"attempts": 7}
        assert "It is 7 now." in second.content.decode()

    def test_a_page_does_not_overwrite_what_the_api_changed_meanwhile(self) -> None:
        row = make.config(attempts=5)
        api, url = make.client(row.environment), f"/api/v1/configs/retry/{row.pk}"
        api.patch(url, {"settings": {"attempts": 7}}, headers={"If-Match": '"1"'})

        page = make.browser().post(
            address("retryconfig_edit", row.pk), {"version": 1, "attempts": "6"}
        )
        late = api.patch(url, {"settings": {"attempts": 8}}, headers={"If-Match": '"1"'})

        assert (page.status_code, late.status_code) == (422, 412)
        assert RetryConfig.objects.get().values == {"attempts": 7}

    @pytest.mark.parametrize(
        "values",
        [
            {"attempts": "many"},
            {"attempts": "9" * 10_000},
            {"attempts": "2.5"},
            {"base_seconds": "nan"},
            {"base_seconds": "inf"},
            {"backoff": "cubic"},
            {"enabled": "perhaps"},
            {"per_class": "{"},
            {"per_class": "[" * 5_000},
            {"per_class": '{"critical": {"attempts": 99}}'},
            {"reason": "a\x00b", "attempts": "2"},
        ],
        ids=lambda values: str(values)[:40],
    )
    def test_bad_input(self, values: dict[str, str]) -> None:
        row = make.config()

        answer = make.browser().post(address("retryconfig_edit", row.pk), {"version": 1, **values})

        assert answer.status_code == 422
        assert Revision.objects.count() == 1

    def test_inherit_everything(self) -> None:
        row = make.config()

        answer = make.browser().post(address("retryconfig_clear", row.pk), {"version": 1})

        assert answer.status_code == 302
        assert not RetryConfig.objects.exists()


class TestWhoMay:
    def test_a_viewer_looks_and_changes_nothing(self) -> None:
        row = make.config()
        client = make.browser(make.member(row.environment, "viewer"))

        shown = client.get(address("retryconfig_change", row.pk))
        answer = client.post(address("retryconfig_edit", row.pk), {"version": 1, "attempts": "6"})

        assert shown.status_code == 200
        assert address("retryconfig_edit", row.pk) not in shown.content.decode()
        assert answer.status_code == 403
        assert Entry.objects.filter(outcome="denied").count() == 1
        assert RetryConfig.objects.get().values == {"attempts": 5}

    def test_another_environments_rows_are_not_there(self) -> None:
        row = make.config()
        client = make.browser(make.member())

        assert "attempts 5" not in text_of(client, address("retryconfig_changelist"))
        assert client.get(address("retryconfig_edit", row.pk)).status_code == 302

    def test_an_operator_cannot_set_in_another_environment(self) -> None:
        elsewhere = make.environment()
        client = make.browser(make.member())

        answer = client.post(
            address("retryconfig_set"), {"environment": elsewhere.pk, "attempts": "6"}
        )

        assert answer.status_code == 422
        assert not RetryConfig.objects.exists()


class TestOverridePages:
    @pytest.mark.parametrize("mode", ["force_open", "force_closed", "disabled", "metrics_only"])
    def test_override_everywhere(self, mode: str) -> None:
        bank = make.dependency()

        answer = make.browser().post(
            address("override_engage"),
            {"dependency": bank.pk, "mode": mode, "lease": "900", "reason": "provider is down"},
        )

        row = Override.objects.get()
        assert answer.status_code == 302
        assert (row.mode, row.service, row.environment) == (mode, None, bank.environment)
        assert row.expires_at is not None
        assert (row.expires_at - row.set_at).total_seconds() == pytest.approx(900, abs=1)

    def test_override_for_one_service_until_i_end_it(self) -> None:
        service = make.service()
        bank = make.dependency(service.environment)

        make.browser().post(
            address("override_engage"),
            {
                "dependency": bank.pk,
                "service": service.pk,
                "mode": "force_open",
                "lease": "0",
                "reason": "provider is down",
            },
        )

        assert (Override.objects.get().service, Override.objects.get().expires_at) == (
            service,
            None,
        )

    def test_a_service_of_another_environment_is_refused(self) -> None:
        answer = make.browser().post(
            address("override_engage"),
            {
                "dependency": make.dependency().pk,
                "service": make.service().pk,
                "mode": "force_open",
                "lease": "0",
                "reason": "provider is down",
            },
        )

        assert answer.status_code == 422
        assert not Override.objects.exists()

    def test_the_list_counts_down(self) -> None:
        make.override()

        text = text_of(make.browser(), address("override_changelist"))

        assert "IN FORCE" in text
        assert re.search(r"ends in (30|29)\sminutes", text)

    def test_extend_and_end(self) -> None:
        row = make.override()
        client = make.browser()

        client.post(address("override_extend", row.pk), {"version": 1, "lease": "0"})
        client.post(address("override_end", row.pk), {"version": 2, "reason": "it is back"})

        row.refresh_from_db()
        assert (row.expires_at, row.end_reason, row.version) == (None, "it is back", 3)
        assert "ended" in text_of(client, address("override_change", row.pk))

    def test_the_page_says_what_it_hits(self) -> None:
        place = make.environment()
        bank = make.dependency(place, "bank")
        make.config(at=make.scope(place, bank, make.service(place)))
        row = make.override(make.scope(place, bank))

        assert "bank: 1 service" in text_of(make.browser(), address("override_end", row.pk))


class TestPresetPage:
    @pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.key)
    def test_every_preset_sets_all_it_names(self, preset: Preset) -> None:
        bank = make.dependency(slug="bank")

        answer = make.browser().post(
            address("servicepolicy_apply-preset"),
            {"dependency": bank.pk, "preset": preset.key},
            follow=True,
        )

        told = html.unescape(answer.content.decode())
        assert f"{preset.title} is set for bank, revision 1." in told
        published = {row.name: row.body for row in Fragment.objects.current()}
        assert published == {key: dict(values) for key, values in preset.settings.items()}


class TestEffectivePage:
    def row(self) -> Config:
        place = make.environment()
        bank, checkout = make.dependency(place, "bank"), make.service(place, "checkout")
        make.config(at=make.scope(place), attempts=7)
        make.override(make.scope(place, bank))
        return make.config("breaker", make.scope(place, bank, checkout), open_seconds=11.0)

    def test_it_shows_value_source_revision_and_author(self) -> None:
        row = self.row()

        text = text_of(make.browser(), address("servicepolicy_change", row.service_id))

        assert re.search(r"Attempts 7 environment 1 ana", text)
        assert re.search(r"Open \(seconds\) 11 service 3 ana", text)
        assert re.search(r"Base \(seconds\) 0.1 library default – –", text)
        assert "force_open by ana: provider is down" in text

    def test_it_leads_to_the_pages_that_change_it(self) -> None:
        row = self.row()
        client = make.browser()

        page = client.get(address("servicepolicy_change", row.service_id)).content.decode()

        assert address("breakerconfig_edit", row.pk) in page
        place = f"environment={row.environment_id}&amp;dependency={row.dependency_id}&amp;service="
        assert f"{address('retryconfig_set')}?{place}{row.service_id}" in page
        assert f"{address('override_engage')}?{place}{row.service_id}" in page

    def test_the_list_counts_dependencies_and_overrides(self) -> None:
        self.row()

        text = text_of(make.browser(), address("servicepolicy_changelist"))

        assert "1 in force" in text

    def test_another_environments_service_is_not_there(self) -> None:
        row = self.row()
        client = make.browser(make.member())

        assert "checkout" not in text_of(client, address("servicepolicy_changelist"))
        assert client.get(address("servicepolicy_change", row.service_id)).status_code == 302


class TestRevisionPages:
    def test_the_list_says_who_why_and_what(self) -> None:
        make.override(make.scope(dependency=make.dependency(slug="bank")))

        text = text_of(make.browser(), address("revision_changelist", app="publication"))

        assert "ana override bank provider is down" in text

    def test_the_list_takes_the_same_queries_for_many_rows(self) -> None:
        place = make.environment()
        client = make.browser()
        url = address("revision_changelist", app="publication")
        make.config(at=make.scope(place))
        client.get(url)
        with CaptureQueriesContext(connection) as few:
            client.get(url)
        for _number in range(10):
            make.config(at=make.scope(place, make.dependency(place)))

        with CaptureQueriesContext(connection) as many:
            client.get(url)

        assert len(many) == len(few)

    def test_the_page_shows_what_changed(self) -> None:
        row = make.config(attempts=5)
        services.set_config(
            "retry", scope=row.holds_in, values={"attempts": 9}, actor=make.actor(row.environment)
        )
        newest = Revision.objects.get(number=2)

        text = text_of(make.browser(), address("revision_change", newest.pk, app="publication"))

        assert "setting retry: attempts: 5 → 9" in text

    def test_roll_back_shows_what_it_changes_and_does_it(self) -> None:
        row = make.config(attempts=5)
        services.set_config(
            "retry", scope=row.holds_in, values={"attempts": 9}, actor=make.actor(row.environment)
        )
        first = Revision.objects.get(number=1)
        url = address("revision_rollback", first.pk, app="publication")
        client = make.browser()

        text = text_of(client, url)
        answer = client.post(url, {"reason": "it got worse"})

        assert "environment: retry attempts: 9 → 5" in text
        assert answer.status_code == 302
        assert RetryConfig.objects.get().values == {"attempts": 5}
        assert Fragment.objects.current().get().revision == 3
        listed = text_of(client, address("revision_changelist", app="publication"))
        assert "back to 1" in listed
        assert "The settings of revision 1 are in force again." in listed

    def test_a_rollback_to_the_same_settings_says_so(self) -> None:
        make.config()
        revision = Revision.objects.get()
        url = address("revision_rollback", revision.pk, app="publication")
        client = make.browser()

        answer = client.post(url, {"reason": "it got worse"})

        assert "nothing: the settings are the same now" in text_of(client, url)
        assert answer.status_code == 422
        assert Revision.objects.count() == 1


class TestDangers:
    def posted(self, page: str, *args: Any, **values: Any) -> tuple[Client, Any, dict[str, Any]]:
        client = make.browser()
        return client, client.post(address(page, *args), values), values

    def test_a_dangerous_change_is_shown_before_it_is_made(self) -> None:
        row = make.config("timeout", attempt_seconds=30.0)

        client, answer, values = self.posted(
            *("timeoutconfig_edit", row.pk), version=1, attempt_seconds="30", total_seconds="20"
        )

        assert answer.status_code == 422
        assert "3 attempts × 30 s = 90 s is longer" in html.unescape(answer.content.decode())
        assert TimeoutConfig.objects.get().values == {"attempt_seconds": 30.0}
        seen = values | {"seen": answer.context["review"].seen_as}
        assert client.post(address("timeoutconfig_edit", row.pk), seen).status_code == 302
        assert TimeoutConfig.objects.get().total_seconds == 20.0

    def test_what_was_seen_is_no_leave_for_something_else(self) -> None:
        place = make.environment()

        client, answer, values = self.posted(
            "timeoutconfig_set", environment=place.pk, total_seconds="20"
        )
        worse = values | {"total_seconds": "5", "seen": answer.context["review"].seen_as}

        assert client.post(address("timeoutconfig_set"), worse).status_code == 422
        assert not TimeoutConfig.objects.exists()

    def test_what_was_dangerous_before_is_not_asked_about_again(self) -> None:
        row = make.config("timeout", total_seconds=20.0)

        _client, answer, _values = self.posted(
            "timeoutconfig_edit", row.pk, version=1, total_seconds="25"
        )

        assert answer.status_code == 302

    def test_inheriting_may_be_dangerous_too(self) -> None:
        place = make.environment()
        make.config("timeout", make.scope(place), total_seconds=40.0)
        row = make.config(at=make.scope(place, make.dependency(place)), enabled=False)

        _client, answer, _values = self.posted("retryconfig_clear", row.pk, version=1)

        assert answer.status_code == 422
        assert RetryConfig.objects.exists()

    def test_so_may_going_back(self) -> None:
        place = make.environment()
        row = make.config("timeout", make.scope(place), total_seconds=20.0)
        sound = {"attempt_seconds": 5.0}
        actor = make.actor(place)
        services.set_config("timeout", scope=row.holds_in, values=sound, actor=actor)
        first = Revision.objects.get(number=1)
        url = address("revision_rollback", first.pk, app="publication")
        client, values = make.browser(), {"reason": "it got worse"}

        answer = client.post(url, values)

        assert answer.status_code == 422
        (danger,) = answer.context["review"].dangers
        assert danger.detail.startswith("3 attempts × 30 s = 90 s is longer")
        assert Revision.objects.count() == 2
        seen = values | {"seen": answer.context["review"].seen_as}
        assert client.post(url, seen).status_code == 302
        assert TimeoutConfig.objects.get().values == {"total_seconds": 20.0}

    def test_so_may_a_preset(self) -> None:
        bank = make.dependency(make.environment(), "bank")
        make.config("timeout", make.scope(dependency=bank), total_seconds=100.0)

        client, answer, values = self.posted(
            "servicepolicy_apply-preset", dependency=bank.pk, preset="alpaca"
        )

        assert answer.status_code == 422
        (danger,) = answer.context["review"].dangers
        assert danger.detail.startswith("4 attempts × 30 s = 120 s is longer")
        assert not RetryConfig.objects.exists()
        seen = values | {"seen": answer.context["review"].seen_as}
        assert client.post(address("servicepolicy_apply-preset"), seen).status_code == 302
        assert RetryConfig.objects.exists()

    def test_a_preset_that_is_set_already_is_not_asked_about(self) -> None:
        bank = make.dependency(make.environment(), "bank")
        actor = make.actor(bank.environment)
        services.apply_preset("alpaca", scope=make.scope(dependency=bank), actor=actor)
        make.config("timeout", make.scope(bank.environment), total_seconds=100.0)

        _client, answer, _values = self.posted(
            "servicepolicy_apply-preset", dependency=bank.pk, preset="alpaca"
        )

        assert answer.status_code == 302

    def test_a_preset_that_contradicts_what_holds_says_which_setting_does(self) -> None:
        bank = make.dependency(make.environment(), "bank")
        make.config("breaker", make.scope(bank.environment), open_max_seconds=40.0)

        _client, answer, _values = self.posted(
            "servicepolicy_apply-preset", dependency=bank.pk, preset="ml-service"
        )

        assert answer.status_code == 422
        _general, told = answer.context["form"].non_field_errors()
        assert told.startswith("breaker.open_max_seconds: For every service's calls to bank it")

    def test_a_contradiction_is_refused_and_not_asked_about(self) -> None:
        row = make.config("breaker", open_max_seconds=40.0)

        _client, answer, _values = self.posted(
            "breakerconfig_edit", row.pk, version=1, open_max_seconds="40", open_seconds="60"
        )

        assert answer.status_code == 422
        assert not answer.context["review"].dangers
        assert "open_max_seconds" in answer.context["form"].errors

    def test_the_effective_page_says_what_is_dangerous_at_which_dependency(self) -> None:
        place = make.environment()
        service, bank = make.service(place, "checkout"), make.dependency(place, "bank")
        make.uses(service, bank)
        make.uses(service, make.dependency(place, "mail"))
        make.config("timeout", make.scope(place, bank), total_seconds=20.0)

        page = make.browser().get(address("servicepolicy_change", service.pk))

        assert {each["dependency"]: len(each["dangers"]) for each in page.context["policies"]} == {
            "bank": 1,
            "mail": 0,
        }
        assert "3 attempts × 30 s = 90 s" in page.content.decode()
