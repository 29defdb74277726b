"""The page of how something went: what it is about, whom it shows, and the ways to it."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.console import history
from apps.fleet.models import Dependency, Environment, Service
from tests import make

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]
ADDRESS = "/admin/history/"


@pytest.fixture
def service() -> Service:
    found = make.service(make.environment("here"), "checkout")
    make.uses(found, make.dependency(found.environment, "payments-api"))
    return found


@pytest.fixture
def viewer(service: Service) -> Client:
    return make.browser(make.member(service.environment, "viewer"))


def page(client: Client, status: int = 200, **query: Any) -> str:
    answer = client.get(ADDRESS, query)
    assert answer.status_code == status
    return answer.content.decode()


class TestWhatItIsAbout:
    @pytest.mark.parametrize(
        ("query", "title"),
        [
            ({}, "Everything"),
            ({"service": "checkout"}, "checkout"),
            ({"dependency": "payments-api"}, "payments-api"),
            ({"service": "checkout", "dependency": "payments-api"}, "checkout → payments-api"),
        ],
    )
    def test_address_says_it(self, viewer: Client, query: dict[str, Any], title: str) -> None:
        text = page(viewer, environment="here", **query)

        found = re.search(r'hf-went-title">\s*(.*?)\s*<span', text, re.DOTALL)
        assert found is not None
        assert found[1] == title
        assert f'data-dependency="{query.get("dependency", "")}"' in text

    def test_span_is_kept_in_every_link_to_another(self, viewer: Client) -> None:
        text = page(viewer, environment="here", service="checkout", span="7d")

        assert 'data-seconds="604800"' in text
        for name, _seconds, _title in history.SPANS:
            query = urlencode({"environment": "here", "service": "checkout", "span": name})
            assert f"?{query}".replace("&", "&amp;") in text

    def test_own_time_is_handed_on_as_it_is(self, viewer: Client) -> None:
        text = page(viewer, since="2026-11-22T14:00:00Z", until='"><script>')

        assert 'data-since="2026-11-22T14:00:00Z" data-until="&quot;&gt;&lt;script&gt;"' in text
        assert 'data-seconds=""' in text

    def test_the_timeline_of_the_same_is_drawn_and_linked(self, viewer: Client) -> None:
        text = page(viewer, environment="here", service="checkout")

        assert 'data-timeline="/api/v1/timeline"' in text
        assert "/admin/timeline/?environment=here&amp;service=checkout" in text

    def test_related_pages_are_linked(self, viewer: Client) -> None:
        both = "?environment=here&amp;service=checkout&amp;dependency=payments-api"

        assert both in page(viewer, service="checkout")
        assert "?environment=here&amp;dependency=payments-api&amp;service=checkout" in page(
            viewer, dependency="payments-api"
        )
        together = page(viewer, service="checkout", dependency="payments-api")
        assert "All of checkout" in together
        assert "All calls of payments-api" in together


class TestWhatIsNotThere:
    @pytest.mark.parametrize(
        "query",
        [
            {"environment": "elsewhere"},
            {"service": "theirs"},
            {"dependency": "theirs"},
            {"service": "\0"},
            {"span": "1y"},
        ],
    )
    def test_nor_what_is_somebody_elses(self, viewer: Client, query: dict[str, Any]) -> None:
        elsewhere = make.environment("elsewhere")
        make.service(elsewhere, "theirs")
        make.dependency(elsewhere, "theirs")

        page(viewer, 404, **query)

    def test_strangers_log_in_first(self, service: Service) -> None:
        answer = Client().get(ADDRESS, {"service": "checkout"})

        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("admin:login"))

    def test_without_a_role_one_is_told_whom_to_ask(self, service: Service) -> None:
        assert "Ask an administrator" in page(make.browser(make.user()))


class TestTheWayThere:
    def test_from_the_pages_of_service_and_dependency(self, service: Service) -> None:
        browser = make.browser()
        dependency = make.dependency(service.environment, "redis")

        for name, row in (("service", service), ("dependency", dependency)):
            address = reverse(f"admin:fleet_{name}_change", args=[row.pk])
            assert f"{ADDRESS}?environment=here&amp;{name}={row.slug}" in browser.get(address).text

    def test_from_the_dashboard(self, service: Service, viewer: Client) -> None:
        make.instance(service)

        assert f"{ADDRESS}?environment=here&amp;service=checkout" in viewer.get("/admin/").text


def test_size_of_the_fleet_costs_no_queries(service: Service, viewer: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            page(viewer, dependency="payments-api")
        return len(found)

    page(viewer)
    few = queries()
    grown(service.environment, callers=5)

    assert queries() == few


def grown(where: Environment, *, callers: int) -> None:
    payments = Dependency.objects.get(environment=where, slug="payments-api")
    for _ in range(callers):
        make.uses(make.service(where), payments)
