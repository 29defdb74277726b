"""Every page of the console, for everybody who may open it."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts import services as accounts
from apps.accounts.models import User
from apps.core import clock
from apps.core.admin import GuardedModelAdmin
from apps.fleet.models import Environment
from apps.policies.models import Scope
from apps.telemetry.models import BreakerEvent, InstanceState
from tests import make

pytestmark = [pytest.mark.django_db, pytest.mark.one_database, pytest.mark.unmeasured]
MODELS = sorted(
    (model for model, page in admin.site._registry.items() if isinstance(page, GuardedModelAdmin)),
    key=lambda model: model._meta.label,
)
PEOPLE: dict[str, Callable[[Environment], User]] = {
    "viewer": lambda where: make.member(where, "viewer"),
    "operator": lambda where: make.member(where, "operator"),
    "administrator": lambda where: make.member(where, "administrator"),
    "superuser": lambda where: make.user(is_superuser=True),
}


def populate(where: Environment, count: int) -> list[str]:
    """`count` of everything the console lists; returns the texts of the tokens."""
    secrets = []
    for _ in range(count):
        service, dependency = make.service(where), make.dependency(where)
        scope = Scope(where.pk, dependency, service)
        make.engaged(where)
        make.flag(of=service)
        make.override(scope)
        for pattern in ("breaker", "retry", "timeout", "bulkhead", "fallback"):
            make.config(pattern, scope, **SETTINGS[pattern])
        instance = make.instance(service)
        InstanceState.objects.create(
            instance=instance,
            breakers={dependency.slug: {"state": "open", "since": None, "override": None}},
            reported_at=clock.now(),
        )
        BreakerEvent.objects.create(
            service=service,
            dependency=dependency.slug,
            instance_id=instance.pk,
            type="breaker.state_changed",
            from_state="closed",
            to_state="open",
            at=clock.now(),
            received_at=clock.now(),
        )
        secrets.append(make.token(of=service)[1])
        make.member(where)
    return secrets


SETTINGS: dict[str, dict[str, Any]] = {
    "breaker": {"minimum_calls": 10},
    "retry": {"attempts": 2},
    "timeout": {"attempt_seconds": 2.0},
    "bulkhead": {"max_concurrent": 9},
    "fallback": {"max_concurrent": 3},
}


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def page_of(row: Model, name: str = "change") -> str:
    options = row._meta
    return reverse(f"admin:{options.app_label}_{options.model_name}_{name}", args=[row.pk])


def offered_in(html: str) -> list[str]:
    """The addresses of the changes and creations a page offers."""
    navs = re.findall(r'<nav class="hf-offered.*?</nav>', html, re.DOTALL)
    return re.findall(r'href="([^"]+)"', " ".join(navs))


@pytest.fixture
def here() -> Environment:
    return make.environment("here")


def pages(browser: Client, model: type[Model]) -> dict[str, Any]:
    """Answers by address: a model's list, one object's page, and all that these offer."""
    found = {list_of(model): browser.get(list_of(model))}
    row = model._default_manager.first()
    if row is not None and (answer := browser.get(page_of(row))).status_code == 200:
        found[page_of(row)] = answer
    offered = [address for answer in found.values() for address in offered_in(answer.text)]
    return found | {address: browser.get(address) for address in offered}


@pytest.mark.parametrize("who", PEOPLE)
class TestEveryPage:
    def test_what_is_offered_opens_and_shows_no_token(self, here: Environment, who: str) -> None:
        secrets = populate(here, 1)
        browser = make.browser(PEOPLE[who](here))

        navigation = browser.get("/admin/").text
        listed = [model for model in MODELS if f'href="{list_of(model)}"' in navigation]

        answers = {
            address: answer for model in listed for address, answer in pages(browser, model).items()
        }

        assert len(answers) > len(listed) > 10
        assert {address: found.status_code for address, found in answers.items()} == dict.fromkeys(
            answers, 200
        )
        assert not [
            address
            for address, found in answers.items()
            if any(secret[16:] in found.text for secret in secrets)
        ]

    def test_the_page_says_what_it_is(self, here: Environment, who: str) -> None:
        text = make.browser(PEOPLE[who](here)).get(list_of(apps.get_model("degradation.Flag"))).text

        assert '<html lang="en"' in text
        assert re.search(r"<title>[^<]*Holdfast\s*</title>", text)
        assert text.count("<h1") == 1


def test_a_list_costs_the_same_queries_for_more_rows() -> None:
    here = make.environment("here")
    browser = make.browser()
    populate(here, 2)
    few = {model._meta.label: queries_of(browser, model) for model in MODELS}
    populate(here, 4)

    many = {model._meta.label: queries_of(browser, model) for model in MODELS}

    assert {label for label in few if many[label] > few[label]} == set()


def queries_of(browser: Client, model: type[Model]) -> int:
    """How many the model's list takes, once what is looked up only once is known."""
    browser.get(list_of(model))
    with CaptureQueriesContext(connection) as asked:
        browser.get(list_of(model))
    return len(asked)


class TestForms:
    def test_every_field_has_a_label(self, here: Environment) -> None:
        text = make.browser().get(reverse("admin:degradation_flag_read-only")).text
        form = text[text.index('<form method="post" class="hf-form"') :]
        named = set(
            re.findall(r'<(?:input|select|textarea)(?![^>]*hidden)[^>]*\bid="([^"]+)"', form)
        )
        labelled = set(re.findall(r'<label[^>]*\bfor="([^"]+)"', form))

        assert named
        assert named <= labelled

    def test_a_refused_form_says_why_and_keeps_what_was_typed(self, here: Environment) -> None:
        flag = make.flag(here)

        answer = make.browser().post(
            page_of(flag, "engage"), {"lease": "900", "reason": "", "version": flag.version}
        )

        assert answer.status_code == 422
        assert 'role="alert"' in answer.text
        assert 'value="900"' in answer.text

    def test_a_dangerous_change_looks_like_one(self, here: Environment) -> None:
        text = make.browser().get(page_of(make.flag(here), "engage")).text

        assert re.search(r'<button type="submit" class="hf-button hf-button-danger">', text)

    def test_an_empty_list_offers_what_fills_it(self, here: Environment) -> None:
        text = make.browser().get(list_of(apps.get_model("degradation.Flag"))).text

        assert "There are no flags yet" in text
        assert reverse("admin:degradation_flag_new") in text


class TestDoors:
    def test_the_front_door_leads_to_the_dashboard(self) -> None:
        assert make.browser().get("/")["Location"] == "/admin/"

    def test_the_front_door_asks_strangers_to_log_in(self) -> None:
        assert Client().get("/")["Location"] == "/admin/login/"

    def test_the_login_page_opens(self) -> None:
        text = Client().get("/admin/login/").text

        assert "Holdfast" in text
        assert '<label for="id_username"' in text

    def test_an_icon_is_there_for_whoever_asks_the_old_way(self) -> None:
        assert Client().get("/favicon.ico")["Location"] == "/static/img/holdfast.svg"

    @pytest.mark.parametrize("address", ["/nowhere", "/admin/nowhere/", "/wall/?environment=none"])
    def test_people_are_told_in_words_that_there_is_nothing(
        self, here: Environment, address: str
    ) -> None:
        answer = make.browser().get(address)

        assert answer.status_code == 404
        assert "There is nothing at this address</h1>" in answer.text

    def test_programs_are_told_in_a_problem_document(self) -> None:
        answer = Client().get("/api/v1/nowhere")

        assert answer.status_code == 404
        assert answer["Content-Type"] == "application/problem+json"

    def test_people_are_told_in_words_that_their_role_does_not_allow_it(
        self, here: Environment
    ) -> None:
        flag = make.flag(here)

        answer = make.browser(make.member(here, "viewer")).get(page_of(flag, "engage"))

        assert answer.status_code == 403
        assert "Your role does not allow this" in answer.text

    def test_somebody_who_was_locked_out_is_sent_to_log_in(self, here: Environment) -> None:
        person = make.member(here)
        browser = make.browser(person)
        accounts.set_active(person.pk, is_active=False, actor=make.actor(here))

        assert browser.get("/admin/").status_code == 302


def test_the_lease_default_is_what_people_see() -> None:
    """The page that engages read-only offers half an hour first."""
    make.environment("here")
    text = make.browser().get(reverse("admin:degradation_flag_read-only")).text
    chosen = re.search(r'value="(\d+)"[^>]*checked', text)

    assert chosen is not None
    assert timedelta(seconds=int(chosen[1])) == timedelta(minutes=30)
