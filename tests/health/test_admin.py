"""Checks in the console: what people see, and what they can do there."""

from typing import Any

import pytest
from django.urls import reverse

from apps.audit.models import Entry
from apps.core.sealing import unseal
from apps.fleet.models import Environment
from apps.health.models import Check, Result
from tests import make

pytestmark = pytest.mark.django_db

LIST = "/admin/health/check/"
NEW = {
    "name": "shop-db",
    "kind": "tcp",
    "address": "tcp://127.0.0.1:9",
    "timeout_seconds": "5",
    "retry_seconds": "5",
    "failures_to_confirm": "3",
    "successes_to_recover": "2",
    "enabled": "on",
}


def page(check: Check, name: str) -> str:
    return reverse(f"admin:health_check_{name}", args=[check.pk])


def text(answer: Any) -> str:
    return str(answer.content.decode())


@pytest.fixture
def place() -> Environment:
    return make.environment()


class TestList:
    def test_empty_it_says_what_to_do(self, place: Environment) -> None:
        answer = make.browser().get(LIST)

        assert answer.status_code == 200
        assert "Add check" in text(answer)

    def test_states_are_badges_and_others_environments_are_not_there(
        self, place: Environment
    ) -> None:
        check = make.check(place, name="shop-db")
        Check.objects.filter(pk=check.pk).update(status="down", detail="connection refused")
        make.check(name="elsewhere")

        shown = text(make.browser(make.member(place)).get(LIST))

        assert "shop-db" in shown
        assert "connection refused" in shown
        assert "elsewhere" not in shown

    @pytest.mark.parametrize("query", ["status=down", "kind=tcp", "enabled__exact=1", "q=shop"])
    def test_filters_and_search(self, place: Environment, query: str) -> None:
        make.check(place)

        assert make.browser().get(f"{LIST}?{query}").status_code == 200

    def test_it_takes_as_many_queries_for_five_as_for_one(
        self, place: Environment, django_assert_max_num_queries: Any
    ) -> None:
        for _number in range(5):
            make.check(place, dependency=make.dependency(place))
        browser = make.browser()
        browser.get(LIST)

        with django_assert_max_num_queries(12):
            browser.get(LIST)


class TestPage:
    def test_of_a_new_one_says_that_it_has_not_run(self, place: Environment) -> None:
        shown = text(make.browser().get(page(make.check(place), "change")))

        assert "It has not run yet" in shown

    def test_after_a_run_there_is_a_chart_and_a_table(self, place: Environment) -> None:
        check, browser = make.check(place), make.browser()
        for _number in range(3):
            browser.post(page(check, "test"), {"version": "1"})

        shown = text(browser.get(page(check, "change")))

        assert f"/api/v1/checks/{check.pk}/history" in shown
        assert "Changes of status" in shown
        assert "connection refused" in shown
        assert "<style" not in shown.partition("hf-history")[2].partition("</section>")[0]

    def test_it_shows_where_the_last_runs_time_went(self, place: Environment) -> None:
        check, browser = make.check(place), make.browser()
        phases = {"resolve": 0.001, "connect": 0.003}
        Check.objects.filter(pk=check.pk).update(facts={"phases": phases}, latency_seconds=0.004)

        shown = text(browser.get(page(check, "change")))

        assert 'class="hf-phase-connect" x="25.00%" width="75.00%"' in shown
        assert "in total 4.0 ms" in shown

    def test_the_chart_gets_its_points(self, place: Environment) -> None:
        check, browser = make.check(place), make.browser()
        browser.post(page(check, "test"), {"version": "1"})

        answer = browser.get(f"/api/v1/checks/{check.pk}/history?environment={place}&hours=6")

        assert [each["failures"] for each in answer.json()["points"]] == [1]


class TestChanges:
    def test_test_now_says_what_came_of_it(self, place: Environment) -> None:
        check = make.check(place, name="nobody")

        answer = make.browser().post(page(check, "test"), {"version": "1"}, follow=True)

        assert "nobody: failed" in text(answer)
        assert Result.objects.count() == 1

    def test_a_new_one_is_made_with_its_secret_sealed(self, place: Environment) -> None:
        values = NEW | {
            "environment": place.pk,
            "kind": "redis",
            "address": "redis://127.0.0.1:9/0",
            "secret": "s3cret",
            "redis.write_probe": "false",
            "celery.queue": "of another kind",
        }

        answer = make.browser().post(f"{LIST}new/", values, follow=True)

        check = Check.objects.get()
        assert (unseal(check.sealed_secret), check.settings) == ("s3cret", {"write_probe": False})
        assert "s3cret" not in text(answer)

    def test_what_cannot_be_run_is_said_beside_its_field(self, place: Environment) -> None:
        values = NEW | {"environment": place.pk, "address": "http://127.0.0.1"}

        answer = make.browser().post(f"{LIST}new/", values)

        assert answer.status_code == 422
        assert "It begins with tcp://" in text(answer)
        assert not Check.objects.exists()

    def test_what_is_wrong_with_a_setting_is_said_beside_it(self, place: Environment) -> None:
        values = NEW | {"environment": place.pk, "kind": "http", "address": "http://127.0.0.1/"}

        answer = make.browser().post(f"{LIST}new/", values | {"http.json_equals": '"ok"'})

        shown = text(answer)
        assert answer.status_code == 422
        assert 'id="id_http.json_path_error">Say where' in shown
        assert not Check.objects.exists()

    def test_settings_are_shown_in_fields_of_their_own_and_kept(self, place: Environment) -> None:
        settings = {"verify_certificate": False, "json_path": "status", "json_equals": True}
        check = make.check(place, kind="http", address="http://127.0.0.1:9/", settings=settings)
        browser = make.browser()

        form = browser.get(page(check, "edit")).context["form"]
        shown = {name: form[name].value() for name in form.fields if form[name].value() is not None}
        browser.post(page(check, "edit"), shown | {"http.certificate_days": "30", "secret": ""})

        check.refresh_from_db()
        assert check.settings == settings | {"certificate_days": 30}
        assert "redis.write_probe" not in form.fields

    def test_a_setting_left_empty_is_as_usual_again(self, place: Environment) -> None:
        check = make.check(
            place, kind="redis", address="redis://127.0.0.1:9/0", settings={"write_probe": False}
        )

        make.browser().post(page(check, "edit"), NEW | {"address": check.address, "version": "1"})

        check.refresh_from_db()
        assert check.settings == {}

    def test_edited_with_the_secret_left_empty_it_keeps_it(self, place: Environment) -> None:
        check = make.check(place, kind="redis", address="redis://127.0.0.1:9/0", secret="s3cret")
        values = NEW | {"address": check.address, "interval_seconds": "60", "version": "1"}

        make.browser().post(page(check, "edit"), values)

        check.refresh_from_db()
        assert (check.interval_seconds, unseal(check.sealed_secret)) == (60, "s3cret")

    def test_the_secret_is_removed_and_the_check_deleted(self, place: Environment) -> None:
        check = make.check(place, kind="redis", address="redis://127.0.0.1:9/0", secret="s3cret")
        browser = make.browser()

        browser.post(page(check, "forget-secret"), {"version": "1"})
        check.refresh_from_db()
        browser.post(page(check, "delete"), {"version": "2"})

        assert not check.has_secret
        assert not Check.objects.exists()
        assert Entry.objects.filter(action="check.deleted").count() == 1

    @pytest.mark.parametrize("name", ["test", "edit", "delete"])
    def test_viewers_look_and_do_not_touch(self, place: Environment, name: str) -> None:
        browser = make.browser(make.member(place, "viewer"))

        assert browser.post(page(make.check(place), name), {}).status_code == 403
