"""GET /api/v1/convergence and /api/v1/events, and what the console shows of them."""

from typing import Any

import pytest
from django.test import Client

from apps.fleet.models import Service
from apps.telemetry.models import BreakerEvent, InstanceState
from tests import make
from tests.telemetry.arrivals import ingested

pytestmark = pytest.mark.django_db

LISTS = ["/api/v1/convergence", "/api/v1/events"]
ADDRESSES = [*LISTS, "/api/v1/convergence/environment"]


def broken(name: str) -> dict[str, Any]:
    """A report of a breaker that opened."""
    return make.report(dependencies={name: make.calls(breaker={"state": "open"})})


@pytest.fixture
def service() -> Service:
    """One that reported an open breaker, which its document now knows."""
    service = make.service(slug="checkout")
    ingested(service, broken("payments-api"))
    return service


class TestBoth:
    @pytest.mark.parametrize("address", ADDRESSES)
    def test_scope_is_required(self, address: str) -> None:
        assert make.client(scopes=["reports:write"]).get(address).status_code == 403

    @pytest.mark.parametrize("address", LISTS)
    def test_other_environments_stay_out(self, address: str, service: Service) -> None:
        answer = make.client().get(address)

        assert answer.json() == {"results": [], "next": None}

    @pytest.mark.parametrize("address", LISTS)
    def test_token_of_another_service_sees_nothing_of_it(
        self, address: str, service: Service
    ) -> None:
        other = make.service(service.environment, slug="inventory")

        found = make.client(of=other).get(address).json()["results"]

        assert "checkout" not in {each["service"] for each in found}

    @pytest.mark.parametrize("address", ADDRESSES)
    def test_unknown_filters_are_refused(self, address: str) -> None:
        answer = make.client().get(address, {"colour": "blue"})

        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["colour"])

    @pytest.mark.parametrize("address", ADDRESSES)
    def test_with_a_slash_and_without(self, address: str) -> None:
        assert make.client().get(f"{address}/").status_code == 200

    @pytest.mark.parametrize("address", [*ADDRESSES, "/api/v1/reports"])
    def test_other_methods(self, address: str) -> None:
        assert make.client().delete(address).status_code == 405


class TestConvergence:
    def test_n_of_m(self, service: Service) -> None:
        found = make.client(service.environment).get("/api/v1/convergence").json()["results"]

        assert found == [
            {
                "service": "checkout",
                "target_revision": 1,
                "published_at": found[0]["published_at"],
                "applied": 0,
                "total": 1,
                "share": 0.0,
                "silent": 0,
                "stopping": 0,
                "p95_delay": None,
                "measured": 0,
                "behind_seconds": found[0]["behind_seconds"],
                "laggards": ["checkout-1"],
                "silent_names": [],
                "refused": [],
            }
        ]
        assert found[0]["behind_seconds"] > 0

    def test_a_service_s_token_sees_its_own(self, service: Service) -> None:
        make.service(service.environment, slug="inventory")
        everybody = make.client(service.environment).get("/api/v1/convergence/environment").json()
        own = make.client(of=service)

        mine = own.get("/api/v1/convergence/environment").json()

        assert (everybody["services"], everybody["converged"], everybody["total"]) == (2, 1, 1)
        assert (mine["services"], mine["converged"], mine["total"]) == (1, 0, 1)

    def test_pages(self, service: Service) -> None:
        make.service(service.environment, slug="inventory")
        client = make.client(service.environment)

        first = client.get("/api/v1/convergence", {"limit": 1}).json()
        second = client.get(first["next"]).json()

        assert [page["results"][0]["service"] for page in (first, second)] == [
            "checkout",
            "inventory",
        ]
        assert second["next"] is None


class TestEvents:
    def test_event(self, service: Service) -> None:
        found = make.client(service.environment).get("/api/v1/events").json()["results"]

        assert [(one["service"], one["dependency"], one["to_state"]) for one in found] == [
            ("checkout", "payments-api", "open")
        ]

    @pytest.mark.parametrize(
        ("wanted", "count"),
        [
            ({"service": "checkout"}, 2),
            ({"service": "inventory"}, 0),
            ({"dependency": "mail"}, 1),
            ({"service": "checkout", "dependency": "payments-api"}, 1),
        ],
    )
    def test_filters(self, service: Service, wanted: dict[str, str], count: int) -> None:
        ingested(service, broken("mail"))

        found = make.client(service.environment).get("/api/v1/events", wanted).json()

        assert len(found["results"]) == count


class TestConsole:
    @pytest.fixture
    def pages(self) -> Client:
        client = Client()
        client.force_login(make.user(is_superuser=True))
        return client

    @pytest.mark.parametrize("page", ["instancestate", "breakerevent"])
    def test_list(self, service: Service, pages: Client, page: str) -> None:
        answer = pages.get(f"/admin/telemetry/{page}/")

        assert answer.status_code == 200
        assert b"checkout-1" in answer.content

    @pytest.mark.parametrize("model", [InstanceState, BreakerEvent])
    def test_object(self, service: Service, pages: Client, model: Any) -> None:
        row = model.objects.get()

        answer = pages.get(f"/admin/telemetry/{model._meta.model_name}/{row.pk}/change/")

        assert answer.status_code == 200
        assert b"checkout" in answer.content

    def test_how_busy_an_instance_is(self, service: Service, pages: Client) -> None:
        InstanceState.objects.update(resources={"cpu": 0.256, "memory": 0.5, "disk_free": None})

        shown = pages.get("/admin/telemetry/instancestate/").content.decode()

        assert "CPU 26 %, memory 50 %" in shown

    @pytest.mark.parametrize("page", ["instancestate", "breakerevent"])
    def test_nothing_is_added(self, pages: Client, page: str) -> None:
        assert pages.get(f"/admin/telemetry/{page}/add/").status_code == 403
