"""The wall's page: what it shows before any script runs, who may see it, and kiosk tokens."""

import html
import re
import struct
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import ApiToken, Membership
from apps.alerts.models import Alert
from apps.core import clock
from apps.degradation.models import Flag
from apps.fleet.models import Dependency, Environment, Service
from apps.live import selectors
from apps.live.rules import rows
from apps.telemetry.models import InstanceState
from tests import make
from tests.live.sockets import kiosk

pytestmark = pytest.mark.django_db
MOST_QUERIES = 48  # of a page, of a wall that this process did not show yet


@pytest.fixture
def here() -> Environment:
    return make.environment("here")


@pytest.fixture
def viewer(here: Environment) -> Client:
    return make.browser(make.member(here, "viewer"))


def running(where: Environment, slug: str, *, state: str = "closed") -> None:
    """A service with one live instance and one dependency."""
    instance = make.instance(make.service(where, slug))
    breaker = {"state": state, "since": clock.now().isoformat(), "generation": 1, "override": None}
    InstanceState.objects.create(
        instance=instance, breakers={"payments-api": breaker}, reported_at=clock.now()
    )


class TestFirstPaint:
    def test_it_shows_services_breakers_and_convergence(
        self, here: Environment, viewer: Client
    ) -> None:
        running(here, "checkout", state="open")

        text = viewer.get("/wall/?environment=here").content.decode()

        assert re.search(r'data-service="checkout"\s+data-applied="1"\s+data-total="1"', text)
        assert 'data-dependency="payments-api" data-state="open" data-condition="open"' in text

    def test_it_shows_what_is_switched_why_and_by_whom(
        self, here: Environment, viewer: Client
    ) -> None:
        make.engaged(here, "read-only", kind="read_only")

        text = viewer.get("/wall/?environment=here").content.decode()

        assert 'data-flag="read-only"' in text
        assert "primary failing over" in text
        assert "ana" in text

    def test_a_dependency_nobody_reports_is_told_apart_from_no_traffic(
        self, here: Environment, viewer: Client
    ) -> None:
        running(here, "checkout")
        make.uses(make.service(here, "ledger"), make.dependency(here, "postgres"))

        text = viewer.get("/wall/?environment=here").content.decode()

        assert 'data-dependency="payments-api" data-state="closed" data-condition="idle"' in text
        assert 'data-dependency="postgres" data-state="" data-condition="unreported"' in text

    def test_nothing_there_says_what_to_wait_for(self, here: Environment, viewer: Client) -> None:
        text = viewer.get("/wall/").content.decode()

        assert "No service has called home yet" in text

    def test_names_are_escaped(self, here: Environment, viewer: Client) -> None:
        flag = make.flag_piece("a-flag", reason="<script>alert(1)</script>")
        make.publish(here, flag)

        assert "<script>alert" not in viewer.get("/wall/").content.decode()

    def test_the_number_of_queries_does_not_grow(self, here: Environment, viewer: Client) -> None:
        for number in range(10):
            running(here, f"service-of-{number}")
            make.engaged(here, f"flag-of-{number}")

        with CaptureQueriesContext(connection) as queries:
            viewer.get("/wall/")

        assert len(queries) <= MOST_QUERIES


class TestOneService:
    """What `#service=` shows of a fleet too large for a frame to hold it."""

    def asked(self, browser: Client, **query: str) -> Any:
        return browser.get("/wall/service/", {"environment": "here", **query})

    def test_it_comes_with_all_its_tiles(
        self, here: Environment, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rows, "MOST_TILES", 0)
        running(here, "checkout")
        frame = selectors.picture(here.pk)

        answer = self.asked(viewer, service="checkout").json()

        assert (frame["density"], frame["services"][0]["tiles"]) == ("vast", [])
        assert [tile["dependency"] for tile in answer["tiles"]] == ["payments-api"]
        assert answer.keys() == frame["services"][0].keys()

    def test_a_kiosk_may_ask_for_it_too(self, here: Environment) -> None:
        running(here, "checkout")
        screen = kiosk(make.token(here, scopes=["wall:read"])[1])

        assert self.asked(screen, service="checkout").status_code == 200

    @pytest.mark.parametrize(
        "query",
        [
            {"service": "nothing"},
            {"service": "\x00"},
            {"service": "theirs"},
            {"service": "checkout", "environment": "elsewhere"},
        ],
    )
    def test_nothing_else_is_found(
        self, here: Environment, viewer: Client, query: dict[str, str]
    ) -> None:
        running(here, "checkout")
        running(make.environment("elsewhere"), "theirs")

        assert self.asked(viewer, **query).status_code == 404

    def test_nobody_is_told_anything(self, here: Environment) -> None:
        running(here, "checkout")

        assert self.asked(Client(), service="checkout").status_code == 404

    def test_without_a_name_it_tells_whether_one_may_look(
        self, here: Environment, viewer: Client
    ) -> None:
        assert self.asked(viewer).status_code == 204
        assert self.asked(Client()).status_code == 404


class TestThePage:
    def test_it_runs_under_the_strict_policy(self, here: Environment, viewer: Client) -> None:
        running(here, "checkout")
        make.engaged(here, "read-only", kind="read_only")

        answer = viewer.get("/wall/")
        text = answer.content.decode()

        assert "unsafe" not in answer["Content-Security-Policy"]
        assert "script-src 'self'" in answer["Content-Security-Policy"]
        assert not re.search(r"<script(?![^>]*\bsrc=)", text)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=", text)

    def test_it_has_a_language_a_title_headings_and_labels(
        self, here: Environment, viewer: Client
    ) -> None:
        text = viewer.get("/wall/").content.decode()

        assert '<html lang="en"' in text
        assert "<title>Here" in text
        assert text.count("<h1") == 1
        assert 'aria-live="polite"' in text
        assert 'role="alert"' in text

    def test_nobody_else_learns_of_the_address_and_nothing_is_kept(
        self, here: Environment, viewer: Client
    ) -> None:
        answer = viewer.get("/wall/")

        assert answer["Referrer-Policy"] == "no-referrer"
        assert "no-store" in answer["Cache-Control"]

    def test_it_answers_without_its_slash_too(self, here: Environment, viewer: Client) -> None:
        assert viewer.get("/wall").status_code == 200

    def test_it_is_read_only(self, here: Environment, viewer: Client) -> None:
        assert viewer.post("/wall/").status_code == 405

    def test_a_choice_is_offered_between_ones_own_environments(self, here: Environment) -> None:
        person = make.member(here, "viewer")
        place = make.environment("mine-too")
        Membership.objects.create(user=person, environment=place, role="viewer")
        make.environment("not-mine")

        text = make.browser(person).get("/wall/?environment=mine-too").content.decode()

        assert '<option value="mine-too" selected>' in text
        assert '<option value="here">' in text
        assert "not-mine" not in text


class TestFlipping:
    @pytest.fixture
    def text(self, here: Environment) -> str:
        """The page of somebody who may switch, of a wall with everything to switch."""
        return self.page(here, make.browser(make.member(here, "operator")))

    def page(self, where: Environment, browser: Client) -> str:
        running(where, "checkout", state="open")
        make.dependency(where, "payments-api")
        make.engaged(where, "read-only")
        make.alert(make.alert_rule(where))
        return html.unescape(browser.get("/wall/?environment=here").content.decode())

    def test_links_lead_to_the_consoles_pages_with_the_place_filled_in(
        self, here: Environment, text: str
    ) -> None:
        service = Service.objects.get(slug="checkout").pk
        dependency = Dependency.objects.get(slug="payments-api").pk
        flag, alert = Flag.objects.get().pk, Alert.objects.get().pk
        back = "next=%2Fwall%2F%3Fenvironment%3Dhere"

        for address in (
            f"/admin/degradation/flag/read-only/?environment={here.pk}&{back}",
            f"/admin/degradation/flag/read-only/?environment={here.pk}&service={service}&{back}",
            f"/admin/degradation/flag/{flag}/end/?{back}",
            f"/admin/degradation/flag/{flag}/extend/?{back}",
            f"/admin/policies/override/engage/?environment={here.pk}&service={service}"
            f"&dependency={dependency}&{back}",
            f"/admin/alerts/alert/{alert}/acknowledge/?{back}",
        ):
            assert f'href="{address}"' in text

    def test_a_page_comes_back_to_the_wall_which_says_what_was_done(
        self, here: Environment
    ) -> None:
        browser = make.browser(make.member(here, "operator"))
        flag = make.engaged(here, "read-only")
        page = f"/admin/degradation/flag/{flag.pk}/end/?next=%2Fwall%2F%3Fenvironment%3Dhere"

        assert 'href="/wall/?environment=here"' in browser.get(page).content.decode()  # cancel
        answer = browser.post(page, {"reason": "primary is back", "version": flag.version})

        assert answer["Location"] == "/wall/?environment=here"
        assert "is ended" in browser.get(answer["Location"]).content.decode()

    @pytest.mark.parametrize(
        "place",
        [
            "https://evil.example/",
            "//evil.example/",
            "/\\evil.example",
            "/%0d%0aSet-Cookie:x",
            "javascript:alert(1)",
            "wall/",
            "/" + "a" * 1000,
        ],
    )
    def test_no_link_leads_people_elsewhere_afterwards(self, here: Environment, place: str) -> None:
        browser = make.browser(make.member(here, "operator"))
        flag = make.engaged(here, "read-only")
        page = f"/admin/degradation/flag/{flag.pk}/end/?{urlencode({'next': unquote(place)})}"

        answer = browser.post(page, {"reason": "primary is back", "version": flag.version})

        assert answer["Location"] == f"/admin/degradation/flag/{flag.pk}/change/"

    def test_a_viewer_is_offered_none_but_how_it_went(
        self, here: Environment, viewer: Client
    ) -> None:
        text = self.page(here, viewer)

        assert set(re.findall(r'data-link="([a-z-]+)"', text)) == {"history"}
        place = "/admin/history/?environment=here&service=checkout"
        assert f'href="{place}"' in text
        assert f'href="{place}&dependency=payments-api"' in text

    def test_a_kiosk_is_offered_none(self, here: Environment) -> None:
        screen = kiosk(make.token(here, scopes=["wall:read"])[1])

        assert "data-link" not in self.page(here, screen)


class TestWordsOfScripts:
    def test_they_come_under_the_strict_policy(self) -> None:
        answer = Client().get("/words.js")

        assert answer.status_code == 200
        assert "unsafe" not in answer["Content-Security-Policy"]
        assert answer["Content-Type"].startswith("text/javascript")

    def test_they_come_in_the_readers_language(self, tmp_path: Path, settings: Any) -> None:
        place = tmp_path / "de" / "LC_MESSAGES"
        place.mkdir(parents=True)
        (place / "djangojs.mo").write_bytes(catalogue({"": PLURALS, "lease over": "Frist vorbei"}))
        settings.LOCALE_PATHS = [tmp_path]

        text = Client().get("/words.js", headers={"Accept-Language": "de"}).content.decode()

        assert '"lease over": "Frist vorbei"' in text

    def test_pages_load_them_before_their_scripts(self, here: Environment, viewer: Client) -> None:
        for page, script in (("/wall/", "wall.js"), ("/admin/", "console.js")):
            text = viewer.get(page).content.decode()
            assert -1 < text.index('src="/words.js"') < text.index(script)


PLURALS = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n"


def catalogue(words: dict[str, str]) -> bytes:
    """A compiled catalogue (GNU gettext's .mo) of these messages."""
    pairs = sorted((key.encode(), value.encode()) for key, value in words.items())
    tables, texts = [], b""
    begin = 28 + 16 * len(pairs)
    for column in (0, 1):
        for pair in pairs:
            tables.append(struct.pack("<II", len(pair[column]), begin + len(texts)))
            texts += pair[column] + b"\0"
    header = (0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return struct.pack("<7I", *header) + b"".join(tables) + texts


class TestWhoMayLook:
    def test_nobody_logs_in_first(self, here: Environment) -> None:
        answer = Client().get("/wall/?environment=here")

        assert answer.status_code == 302
        assert answer["Location"] == "/admin/login/?next=/wall/%3Fenvironment%3Dhere"

    @pytest.mark.parametrize("slug", ["elsewhere", "nowhere"])
    def test_another_environment_is_not_found(
        self, here: Environment, viewer: Client, slug: str
    ) -> None:
        make.environment("elsewhere")

        assert viewer.get("/wall/", {"environment": slug}).status_code == 404

    def test_somebody_without_a_role_is_told_so(self, here: Environment) -> None:
        answer = make.browser(make.user()).get("/wall/")

        assert answer.status_code == 200
        assert "no environment to look at" in answer.content.decode()

    def test_a_superuser_sees_every_environment(self, here: Environment) -> None:
        assert make.browser().get("/wall/?environment=here").status_code == 200


class TestKiosk:
    def test_the_token_is_swapped_for_a_cookie(self, here: Environment) -> None:
        text = make.token(here, scopes=["wall:read"])[1]
        screen = Client()

        answer = screen.get("/wall/", {"token": text})

        assert answer.status_code == 302
        assert answer["Location"] == "/wall/?environment=here"
        assert answer["Referrer-Policy"] == "no-referrer"
        cookie = answer.cookies["holdfast_kiosk"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert text[16:] not in cookie.value
        assert screen.get(answer["Location"]).status_code == 200

    def test_the_cookie_ends_with_the_token(self, here: Environment) -> None:
        token, text = make.token(here, scopes=["wall:read"])
        ApiToken.objects.filter(pk=token.pk).update(expires_at=clock.now() + timedelta(hours=1))

        cookie = kiosk(text).cookies["holdfast_kiosk"]

        assert 3500 < int(cookie["max-age"]) <= 3600

    def test_a_kiosk_has_no_choice_of_environments(self, here: Environment) -> None:
        make.environment("elsewhere")
        screen = kiosk(make.token(here, scopes=["wall:read"])[1])

        assert "<select" not in screen.get("/wall/").content.decode()

    def test_an_unknown_token_leaves_the_address_and_is_refused(self, here: Environment) -> None:
        screen = Client()
        answer = screen.get("/wall/", {"token": "hf_" + "a" * 12 + "_" + "B" * 43})

        assert answer["Location"] == "/wall/?refused=token"
        assert "holdfast_kiosk" not in answer.cookies
        refused = screen.get(answer["Location"])
        assert refused.status_code == 401
        assert "unknown, expired or revoked" in refused.content.decode()

    def test_a_services_own_token_is_refused(self, here: Environment) -> None:
        """The wall shows every service."""
        token, text = make.token(of=make.service(here), scopes=["wall:read"])
        screen = Client()

        answer = screen.get("/wall/", {"token": text})

        assert answer["Location"] == "/wall/?refused=scope"
        assert "holdfast_kiosk" not in screen.cookies
        assert selectors.grant_of_token(token.pk, "here") is None

    def test_a_token_without_the_scope_is_refused(self, here: Environment) -> None:
        screen = Client()
        answer = screen.get("/wall/", {"token": make.token(here, scopes=["config:read"])[1]})

        assert answer["Location"] == "/wall/?refused=scope"
        refused = screen.get(answer["Location"])
        assert refused.status_code == 403
        assert "wall:read" in refused.content.decode()

    def test_a_revoked_token_opens_nothing_any_more(self, here: Environment) -> None:
        token, text = make.token(here, scopes=["wall:read"])
        screen = kiosk(text)
        ApiToken.objects.filter(pk=token.pk).update(revoked_at=clock.now())

        assert screen.get("/wall/")["Location"].startswith("/admin/login/")

    def test_a_kiosk_opens_no_other_door(self, here: Environment) -> None:
        screen = kiosk(make.token(here, scopes=["wall:read"])[1])

        assert screen.get("/admin/").status_code == 302
        assert screen.get("/api/v1/flags").status_code == 401
