"""Logging in, out, and again: guesses are counted, sessions end, and cookies are kept close."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from apps.accounts.models import FailedLogins, User
from apps.accounts.selectors import FAILURES_COUNT_FOR, MOST_FAILURES, MOST_OF_ADDRESS
from apps.audit.models import Entry
from apps.core import clock
from tests import make

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse staple"
LOGIN = "/admin/login/"


def log_in(
    browser: Client, name: str = "ana", password: str = PASSWORD, address: str = "192.0.2.1"
) -> HttpResponse:
    fields = {"username": name, "password": password, "next": "/admin/"}
    answer: Any = browser.post(LOGIN, fields, REMOTE_ADDR=address)
    return answer  # type: ignore[no-any-return]  # a client's answer is one


def is_in(browser: Client) -> bool:
    return browser.get("/admin/").status_code == 200


@pytest.fixture
def ana() -> User:
    return make.user("ana", is_superuser=True, password=PASSWORD)


@pytest.mark.usefixtures("ana")
class TestGuessing:
    def fail(self, times: int, *names: str, address: str = "192.0.2.1") -> None:
        for number in range(times):
            log_in(Client(), names[number % len(names)], "a guess", address)

    def test_ends_after_ten_times(self) -> None:
        self.fail(MOST_FAILURES, "ana", "ANA")

        answer = log_in(Client())

        assert answer.status_code == 200
        assert "Too many logins failed" in answer.content.decode()

    def test_nine_are_forgiven_by_the_right_password(self) -> None:
        self.fail(MOST_FAILURES - 1, "ana")

        assert log_in(Client()).status_code == 302
        assert log_in(Client()).status_code == 302

    def test_from_elsewhere_locks_nobody_out(self) -> None:
        self.fail(MOST_FAILURES, "ana", address="198.51.100.7")

        assert log_in(Client(), address="192.0.2.1").status_code == 302

    def test_of_many_names_ends_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fail(3, *(f"name-{number}" for number in range(3)))
        FailedLogins.objects.filter(count=3).update(count=MOST_OF_ADDRESS)

        assert log_in(Client()).status_code == 200
        rows = FailedLogins.objects.count()
        self.fail(3, *(f"another-{number}" for number in range(3)))
        assert FailedLogins.objects.count() == rows  # and fills no table

    def test_is_forgotten_in_time(self) -> None:
        self.fail(MOST_FAILURES, "ana")
        later = clock.now() + FAILURES_COUNT_FOR + timedelta(seconds=1)

        with clock.use(lambda: later):
            assert log_in(Client()).status_code == 302
            self.fail(1, "ana")

        assert FailedLogins.objects.count() == 2

    def test_leaves_no_names_behind(self) -> None:
        self.fail(1, "a password typed into the wrong field")

        assert "password" not in str(list(FailedLogins.objects.values_list()))

    @pytest.mark.parametrize("name", ["", "\0", "x" * 10_000, "\u0130"])
    def test_odd_names_are_answered(self, name: str) -> None:
        assert log_in(Client(), name).status_code == 200


@pytest.mark.usefixtures("ana")
class TestSessions:
    def test_begin_with_a_key_of_their_own(self) -> None:
        browser = Client()
        browser.cookies["sessionid"] = "chosenbysomebodyelse0000000000000"
        browser.get("/wall/")

        log_in(browser)

        assert is_in(browser)
        assert browser.cookies["sessionid"].value != "chosenbysomebodyelse0000000000000"

    def test_end_with_the_logout(self) -> None:
        browser = Client()
        log_in(browser)
        key = browser.cookies["sessionid"].value

        browser.post(reverse("admin:logout"))
        thief = Client()
        thief.cookies["sessionid"] = key

        assert not is_in(thief)

    def test_a_link_logs_nobody_out(self) -> None:
        browser = Client()
        log_in(browser)

        assert browser.get(reverse("admin:logout")).status_code == 405
        assert is_in(browser)

    def test_end_when_their_person_is_deactivated(self, ana: User) -> None:
        browser = Client()
        log_in(browser)

        User.objects.filter(pk=ana.pk).update(is_active=False)

        assert not is_in(browser)

    def test_cookies_are_kept_from_scripts_and_other_sites(self) -> None:
        browser = Client()
        log_in(browser)

        cookie = browser.cookies["sessionid"]
        assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
        assert settings.SESSION_COOKIE_SECURE == settings.CSRF_COOKIE_SECURE

    @pytest.mark.parametrize("next_", ["https://evil.example/", "//evil.example", "javascript:a()"])
    def test_lead_nowhere_else(self, next_: str) -> None:
        fields = {"username": "ana", "password": PASSWORD, "next": next_}

        answer = Client().post(LOGIN, fields)

        assert answer.status_code == 302
        assert answer.headers["Location"] == "/admin/"


class TestOnesOwnPassword:
    NEW = "a much better password"

    def change(self, browser: Client, old: str = PASSWORD) -> int:
        fields = {"old_password": old, "new_password1": self.NEW, "new_password2": self.NEW}
        return browser.post(reverse("admin:password_change"), fields).status_code

    def test_is_audited_and_ends_other_sessions(self, ana: User) -> None:
        mine, other = Client(), Client()
        log_in(mine)
        log_in(other)

        assert self.change(mine) == 302

        entry = Entry.objects.get(action="user.password_set")
        assert (entry.actor_label, entry.object_label) == ("ana", "ana")
        assert self.NEW not in entry.text
        assert (is_in(mine), is_in(other)) == (True, False)

    def test_needs_the_old_one(self, ana: User) -> None:
        browser = Client()
        log_in(browser)

        assert self.change(browser, old="a guess") == 200
        ana.refresh_from_db()
        assert ana.check_password(PASSWORD)

    def test_the_page_opens(self, ana: User) -> None:
        browser = make.browser(ana)

        html = browser.get(reverse("admin:password_change")).text

        assert re.search("new_password1", html)


class TestForgedRequests:
    """A browser sends its cookies along with what another site made it send."""

    def test_the_api_takes_no_change_without_the_token_of_the_form(self) -> None:
        here = make.environment()
        flag = make.flag(here)
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(make.member(here))

        answers = [
            browser.generic(
                method,
                f"/api/v1/{address}?environment={here}",
                '{"reason": "x"}',
                content_type,
                headers={"If-Match": '"1"'},
            )
            for method, address in (
                ("POST", f"flags/{flag.pk}/engage"),
                ("PATCH", f"flags/{flag.pk}"),
                ("DELETE", f"flags/{flag.pk}"),
                ("POST", "reports"),
            )
            for content_type in ("application/json", "text/plain")
        ]

        assert {answer.status_code for answer in answers} == {403}
        flag.refresh_from_db()
        assert (flag.enabled, flag.version) == (False, 1)

    def test_with_it_the_change_is_made(self) -> None:
        here = make.environment()
        flag = make.flag(here)
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(make.member(here))
        browser.get("/admin/degradation/flag/read-only/")

        answer = browser.post(
            f"/api/v1/flags/{flag.pk}/engage?environment={here}",
            {"reason": "x"},
            content_type="application/json",
            headers={"If-Match": '"1"', "X-CSRFToken": browser.cookies["csrftoken"].value},
        )

        assert answer.status_code == 200

    def test_the_console_takes_none_either(self) -> None:
        here = make.environment()
        flag = make.flag(here)
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(make.member(here))
        fields = {"lease": "900", "reason": "x", "version": "1"}

        page = reverse("admin:degradation_flag_engage", args=[flag.pk])

        assert browser.post(page, fields).status_code == 403

    def test_a_kiosks_cookie_opens_nothing_but_the_wall(self) -> None:
        here = make.environment()
        flag = make.flag(here)
        screen = Client()
        screen.get("/wall/", {"token": make.token(here, scopes=["wall:read", "flags:write"])[1]})
        assert screen.get("/wall/").status_code == 200

        statuses = {
            screen.get("/api/v1/flags").status_code,
            screen.post(f"/api/v1/flags/{flag.pk}/engage", {"reason": "x"}).status_code,
        }

        assert statuses == {401}
        assert screen.get("/admin/").status_code == 302
        assert screen.post("/wall/").status_code == 405
