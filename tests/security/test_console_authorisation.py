"""Who may do what in the console: every page of every model, asked for whether offered or not."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from apps.core.admin import GuardedModelAdmin
from apps.fleet.models import Environment, Service
from tests import make
from tests.security.world import (
    MODELS,
    PAGES,
    ROLES,
    browser,
    everything,
    list_of,
    page_of,
    populate,
)

pytestmark = [pytest.mark.django_db, pytest.mark.one_database, pytest.mark.unmeasured]
# Who changes things of this kind; of every other, operators do.
LEAST_ROLE = {
    "accounts.User": "superuser",
    "accounts.Membership": "superuser",
    "accounts.ApiToken": "administrator",
    "fleet.Environment": "superuser",
}
SEEN_BY = {"accounts.User": "superuser", "accounts.Membership": "superuser"} | {
    "accounts.ApiToken": "administrator"
}
OF_NO_ENVIRONMENT = {"accounts.User", "publication.Epoch"}


def change_pages(of: Environment | None = None) -> Iterator[tuple[str, str]]:
    """Label of the model, and address, of every change of one of its rows."""
    for model in MODELS:
        row = row_in(model, of)
        names = PAGES[model].changes if row is not None else ()
        yield from ((model._meta.label, page_of(model, name, row.pk)) for name in names)


def creation_pages() -> Iterator[tuple[str, str]]:
    for model in MODELS:
        yield from ((model._meta.label, page_of(model, name)) for name in PAGES[model].creations)


def row_in(model: type[Model], of: Environment | None) -> Any:
    """The newest row, of this environment if one is given."""
    for row in model._default_manager.order_by("-pk"):
        if of is None or PAGES[model].environment_of(row) == of.pk:
            return row
    return None


def is_enough(role: str, label: str, least: dict[str, str]) -> bool:
    return ROLES.index(role) >= ROLES.index(least.get(label, "operator"))


@pytest.fixture(scope="module")
def here(shared_rows: None) -> Environment:
    """A full environment, and another one, `elsewhere`."""
    populate(make.environment("elsewhere"))
    environment = make.environment()
    populate(environment)
    return environment


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.one_database
class TestRoles:
    def test_only_those_who_may_change_open_and_post_change_pages(
        self, here: Environment, role: str
    ) -> None:
        person = browser(role, here)
        before = everything()

        refused = {
            (label, address, method): getattr(person, method)(address, {}).status_code == 403
            for label, address in change_pages(here)
            for method in ("get", "post")
            if not is_enough(role, label, LEAST_ROLE)
        }
        opened = {
            (label, address): person.get(address).status_code
            for label, address in change_pages(here)
            if is_enough(role, label, LEAST_ROLE)
        }

        # What one may not even see is not found, as a row that is not there.
        let_in = {label for (label, _address, _method), is_so in refused.items() if not is_so}
        assert let_in <= {label for label in SEEN_BY if not is_enough(role, label, SEEN_BY)}
        assert set(opened.values()) <= {200}
        assert everything() == before

    def test_only_those_who_may_create_open_and_post_creation_pages(
        self, here: Environment, role: str
    ) -> None:
        person = browser(role, here)
        before = everything()

        statuses = {
            (label, address): {person.get(address).status_code, person.post(address).status_code}
            for label, address in creation_pages()
        }

        assert statuses == {
            (label, address): {200, 422} if is_enough(role, label, LEAST_ROLE) else {403}
            for label, address in statuses
        }
        assert everything() == before

    def test_lists_are_for_those_who_may_see_them(self, here: Environment, role: str) -> None:
        person = browser(role, here)

        statuses = {model._meta.label: person.get(list_of(model)).status_code for model in MODELS}

        assert statuses == {
            label: 200
            if is_enough(role, label, SEEN_BY | dict.fromkeys(viewed(), "viewer"))
            else 403
            for label in statuses
        }


def viewed() -> set[str]:
    """Kinds that everybody with a role may look at."""
    return {model._meta.label for model in MODELS} - SEEN_BY.keys()


class TestAnotherEnvironment:
    """Than that of the person, who is `here`."""

    @property
    def there(self) -> Environment:
        return Environment.objects.get(slug="elsewhere")

    def pages(self, model: type[Model]) -> list[str]:
        row = row_in(model, self.there)
        own = PAGES[model].changes
        names = ("change", "delete", *own)
        return [] if row is None else [page_of(model, name, row.pk) for name in names]

    def test_its_objects_are_not_found_by_their_ids(self, here: Environment) -> None:
        person = browser("administrator", here)
        before = everything()
        addresses = [address for model in MODELS for address in self.pages(model)]

        answers = [
            (address, getattr(person, method)(address, {"reason": "x", "post": "yes"}))
            for address in addresses
            for method in ("get", "post")
        ]

        assert len(addresses) > len(MODELS)
        assert [address for address, answer in answers if answer.status_code == 200] == []
        assert [each for each, answer in answers if b"elsewhere" in answer.content] == []
        assert everything() == before

    @pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
    def test_lists_and_their_filters_do_not_name_it(
        self, here: Environment, model: type[Model]
    ) -> None:
        html = browser("administrator", here).get(list_of(model), {"_facets": "True"}).text

        names = {"elsewhere", "Elsewhere", f"environment {self.there.pk}"}
        names |= {str(each) for each in Service.objects.filter(environment=self.there)}
        assert {name for name in names if re.search(rf"\b{re.escape(name)}\b", html)} == set()

    def test_forms_do_not_offer_it(self, here: Environment) -> None:
        person = browser("administrator", here)

        pages = [person.get(address).text for _label, address in creation_pages()]

        assert pages
        assert [html for html in pages if "elsewhere" in html.lower()] == []

    @pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
    def test_completion_does_not_offer_it(self, here: Environment, model: type[Model]) -> None:
        person = browser("administrator", here)
        options = model._meta
        fields = [field.name for field in options.fields if field.remote_field]

        told = [
            person.get(
                reverse("admin:autocomplete"),
                {
                    "app_label": options.app_label,
                    "model_name": str(options.model_name),
                    "field_name": name,
                    "term": "e",
                },
            )
            for name in fields
        ]

        assert [answer for answer in told if "elsewhere" in answer.text] == []
        assert {answer.status_code for answer in told} <= {200, 403, 404}

    @pytest.mark.parametrize(
        "query",
        [
            "environment__slug=elsewhere",
            "environment__slug__startswith=e",
            "service__environment__slug=elsewhere",
            "instance__service__environment__name=Elsewhere",
            "chain__name__startswith=environment",
            "chain__head__startswith=a",
        ],
    )
    def test_lookups_find_nothing_of_it(self, here: Environment, query: str) -> None:
        person = browser("viewer", here)

        answers = [
            person.get(f"{list_of(model)}?{query}")
            for model in MODELS
            if model._meta.label in viewed()
        ]

        assert {answer.status_code for answer in answers} <= {200, 302, 400}
        assert [answer for answer in answers if ">elsewhere<" in answer.text] == []

    def test_its_wall_is_not_on_the_dashboard(self, here: Environment) -> None:
        answer = browser("viewer", here).get(reverse("admin:index"), {"environment": "elsewhere"})

        assert "elsewhere" not in answer.text


@pytest.mark.one_database
class TestEveryModel:
    def test_has_a_page_only_if_it_is_guarded(self) -> None:
        assert [
            model._meta.label
            for model, page in admin.site._registry.items()
            if not isinstance(page, GuardedModelAdmin)
        ] == []

    def test_is_narrowed_to_what_the_person_sees(self) -> None:
        wide = {
            model._meta.label
            for model in MODELS
            if not hasattr(model._default_manager.all(), "visible_to")
        }

        assert wide == OF_NO_ENVIRONMENT

    @pytest.mark.parametrize(
        "lookup",
        [
            "accounts/user/?password__startswith=pbkdf2",
            "accounts/user/?password=x",
            "accounts/apitoken/?verifier__startswith=a",
            "accounts/apitoken/?verifier__gte=8",
            "accounts/membership/?user__password__startswith=p",
            "degradation/flag/?reason__regex=(a|a)*b",
            "degradation/flag/?reason__iregex=(a|a)*b",
            "audit/entry/?text__regex=(x%2Bx%2B)%2By",
            "degradation/flag/?environment__service__apitoken__verifier=x",
            "degradation/flag/?_to_field=reason",
            "degradation/flag/?_popup=1&_to_field=version",
        ],
    )
    def test_what_no_page_asks_is_refused(self, lookup: str) -> None:
        make.flag()

        assert make.browser().get(f"/admin/{lookup}").status_code == 400


class TestPagesOfTheSite:
    @pytest.mark.parametrize(
        "address", ["/admin/auth/group/", "/admin/auth/permission/", "/admin/auth/user/"]
    )
    def test_djangos_own_are_not_there(self, address: str) -> None:
        assert make.browser().get(address).status_code == 404

    def test_somebody_who_is_not_staff_sees_nothing(self) -> None:
        person = make.user()
        type(person).objects.filter(pk=person.pk).update(is_staff=False)
        session = make.browser(person)

        answers = {session.get(list_of(model)).status_code for model in MODELS}

        assert answers == {302}

    def test_an_address_may_not_fill_in_a_form(self) -> None:
        """Nor break it: a link that somebody sends must not make its reader do things."""
        page = reverse("admin:accounts_user_new")
        query = {"username": "mallory", "is_superuser": "on", "version": "9", "inherited": "x"}

        html = make.browser().get(page, query).text

        assert "mallory" not in html
        assert "checked" not in re.findall(r"<input[^>]*is_superuser[^>]*>", html)[0]

    def test_an_address_may_choose_where(self) -> None:
        place = make.environment()
        make.environment()

        html = (
            make.browser().get(reverse("admin:fleet_service_new"), {"environment": place.pk}).text
        )

        assert f'value="{place.pk}" selected' in html


def test_a_stranger_is_sent_to_log_in(here: Environment) -> None:
    pages = [*change_pages(), *creation_pages(), *((m._meta.label, list_of(m)) for m in MODELS)]
    answers = [Client().post(address) for _label, address in pages]

    assert {answer.status_code for answer in answers} == {302}
    assert all(answer["Location"].startswith(reverse("admin:login")) for answer in answers)
