"""What people and services write is shown as they wrote it, and never runs."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.db import transaction
from django.urls import reverse

from apps.accounts import services as accounts
from apps.degradation import services as degradation
from apps.fleet.models import Dependency, Environment, Service
from apps.policies import services as policies
from tests import make
from tests.security.world import MODELS, PAGES, list_of, page_of, report_of

pytestmark = [pytest.mark.django_db, pytest.mark.unmeasured]
MARK = "hf-evil"
EVIL = f"</script></textarea>'\"`><{MARK} onclick=a()>{{{{ 7*7 }}}}${{7*7}}"
RUNS = ("x-", "@", ":", "on", "v-")  # attributes whose values the theme or a browser evaluates


class Seen(HTMLParser):
    """Elements of a page that came out of what was written, or that would run it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.texts = 0
        self._script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._script = tag == "script"
        if tag == MARK:
            self.found.append(f"<{tag}>")
        for name, value in attributes:
            runs = name.startswith(RUNS) or (
                name in {"href", "src"} and "javascript:" in (value or "")
            )
            if name == "onclick" and value == "a()":
                self.found.append(name)
            if runs and MARK in (value or ""):
                self.found.append(f"{name}={value}")

    def handle_data(self, data: str) -> None:
        if self._script and MARK in data:
            self.found.append("in a script")
        self.texts += MARK in data


@pytest.fixture
def place() -> Environment:
    """An environment in which everything that can be written is the same piece of evil."""
    place = Environment.objects.create(slug="here", name=EVIL)
    service = Service.objects.create(
        environment=place, slug="checkout", owner=EVIL, description=EVIL
    )
    dependency = Dependency.objects.create(environment=place, slug="payments-api", description=EVIL)
    actor = make.actor(place)
    flag = make.flag(place, "a-flag", kind="custom", value={EVIL: EVIL})
    degradation.engage_flag(flag.pk, version=1, lease=None, reason=EVIL, actor=actor)
    degradation.update_flag(flag.pk, version=2, changes={"value": [EVIL]}, reason=EVIL, actor=actor)
    scope = make.scope(place, dependency, service)
    policies.engage_override("force_open", scope=scope, lease=None, reason=EVIL, actor=actor)
    policies.set_config("retry", scope=scope, values={"attempts": 2}, reason=EVIL, actor=actor)
    accounts.create_token(EVIL[:120], scopes=["config:read"], actor=actor)
    make.member(place)
    state = {
        "refused": [{"path": EVIL, "revision": 1, "code": EVIL, "detail": EVIL}],
        "breakers": {EVIL: {"state": "open", "since": None, "override": EVIL}},
    }
    event = {"cause": EVIL[:60], "data": {EVIL: EVIL}}
    report_of(service, name=EVIL[:120], state=state, event=event)
    with transaction.atomic():
        make.publish(place, make.flag_piece("b-flag", reason=EVIL, set_by=EVIL, value=EVIL))
    return place


def pages_of(model: Any) -> list[str]:
    rows = list(model._default_manager.all())
    names = ("change", *PAGES[model].changes)
    objects = [page_of(model, name, row.pk) for row in rows for name in names]
    return [list_of(model), f"{list_of(model)}?q={MARK}", *objects]


def founds(answers: dict[str, Any]) -> dict[str, list[str]]:
    """What is found on which page."""
    return {page: found for page, answer in answers.items() if (found := Seen(answer.text).found)}


@pytest.mark.one_database
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_the_console_shows_it_as_text(place: Environment, model: Any) -> None:
    browser = make.browser()

    answers = {page: browser.get(page) for page in pages_of(model)}

    assert {answer.status_code for answer in answers.values()} == {200}
    assert {
        page: found for page, answer in answers.items() if (found := Seen(answer.text).found)
    } == {}


@pytest.mark.parametrize("page", ["wall", "admin:index"])
def test_the_wall_and_the_dashboard_show_it_as_text(place: Environment, page: str) -> None:
    html = make.browser().get(reverse(page), {"environment": "here"}).text

    seen = Seen(html)
    assert seen.found == []
    assert seen.texts > 0


def test_creations_refuse_and_repeat_it_as_text(place: Environment) -> None:
    browser = make.browser()
    pages = [page_of(model, name) for model in MODELS for name in PAGES[model].creations]
    fields = ("slug", "name", "reason", "username", "key", "value", "dependencies", "description")

    answers = {page: browser.post(page, dict.fromkeys(fields, EVIL)) for page in pages}

    assert {
        page: found for page, answer in answers.items() if (found := Seen(answer.text).found)
    } == {}


@pytest.mark.parametrize("address", ["/admin/{}/", "/api/v1/{}", "/wall/?environment={}", "/{}"])
def test_an_address_is_not_repeated_as_html(address: str) -> None:
    answer = make.browser().get(address.format(EVIL.replace("/", "").replace("#", "")))

    assert MARK not in Seen(answer.content.decode()).found
    assert not (
        f"<{MARK}" in answer.content.decode() and "html" in answer.headers.get("Content-Type", "")
    )


@pytest.mark.parametrize(
    "parameter", ["q", "o", "p", "environment", "_popup", "_changelist_filters"]
)
def test_a_parameter_is_not_repeated_as_html(place: Environment, parameter: str) -> None:
    browser = make.browser()

    answers = [
        browser.get(page, {parameter: EVIL}, follow=True)
        for page in (list_of(MODELS[0]), "/admin/degradation/flag/", "/admin/", "/admin/login/")
    ]

    assert [found for answer in answers if (found := Seen(answer.content.decode()).found)] == []


def test_the_api_says_it_is_json(place: Environment) -> None:
    answer = make.client(place).get("/api/v1/flags")

    assert answer["Content-Type"] == "application/json"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert EVIL in json.dumps(answer.json()).encode().decode("unicode_escape")


class TestTokensPage:
    def test_is_kept_by_no_cache_and_in_no_session(self) -> None:
        place = make.environment()
        browser = make.browser()
        fields = {"environment": place.pk, "name": "checkout", "scopes": ["config:read"]}

        answer = browser.post(reverse("admin:accounts_apitoken_new"), fields)

        (secret,) = set(re.findall(r"hf_[a-z0-9]{12}_([A-Za-z0-9]{43})", answer.text))
        assert "no-store" in answer.headers["Cache-Control"]
        assert secret not in json.dumps(dict(browser.session))
        assert secret not in str(browser.cookies)
        assert secret not in browser.get(reverse("admin:accounts_apitoken_changelist")).text

    def test_no_page_of_the_console_is_kept(self) -> None:
        make.environment()
        browser = make.browser()

        caching = {
            model._meta.label: browser.get(list_of(model)).headers.get("Cache-Control", "")
            for model in MODELS
        }

        assert [label for label, said in caching.items() if "no-store" not in said] == []
