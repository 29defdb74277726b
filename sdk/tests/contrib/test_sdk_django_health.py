"""A service's own health page in Django: true, from memory, and silent about what is inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import AsyncClient, Client, override_settings

from holdfast import Holdfast
from holdfast.contrib.django import health
from holdfast.testing import LocalHoldfast
from sdk.tests.client.server import PolicyServer
from sdk.tests.client.world import QUICK, TOKEN, document, eventually
from sdk.tests.contrib import shop


def site(hf: Holdfast) -> Any:
    shop.hf = hf
    return override_settings(
        ROOT_URLCONF="sdk.tests.contrib.shop",
        MIDDLEWARE=["holdfast.contrib.django.ReadOnlyMiddleware"],
        HOLDFAST={"client": "sdk.tests.contrib.shop.hf"},
    )


@pytest.fixture
def hf() -> Iterator[LocalHoldfast]:
    hf = LocalHoldfast()
    hf.set_policy("bank", breaker={"consecutive_failures": 1}, retry={"enabled": False})
    with site(hf):
        yield hf


def ask() -> dict[str, Any]:
    response = Client().get("/health")
    assert response.status_code == 200  # whatever it says: see `health_of`
    body: dict[str, Any] = response.json()
    return body


def fail() -> None:
    raise ConnectionError("bank.example: connection refused")


class TestAnswer:
    def test_it_is_health_json_nobody_keeps(self, hf: LocalHoldfast) -> None:
        response = Client().get("/health")

        assert response["Content-Type"] == "application/health+json"
        assert response["Cache-Control"] == "no-store"

    async def test_an_async_stack_answers_too(self, hf: LocalHoldfast) -> None:
        response = await AsyncClient().get("/health")

        assert response.json()["checks"]["holdfast:read_only"][0]["status"] == "pass"

    def test_it_cannot_be_written_to(self, hf: LocalHoldfast) -> None:
        assert Client().post("/health").status_code == 405

    def test_it_is_open_where_every_page_wants_a_login(self) -> None:
        assert not getattr(health, "login_required", True)


class TestBreakers:
    def test_a_closed_one_is_well(self, hf: LocalHoldfast) -> None:
        hf.call("bank", lambda: 1)

        (check,) = ask()["checks"]["bank:breaker"]

        assert (check["observedValue"], check["status"]) == ("closed", "pass")

    def test_an_open_one_is_a_warning_and_its_reasons_stay_inside(self, hf: LocalHoldfast) -> None:
        hf.try_call("bank", fail)

        body = ask()

        (check,) = body["checks"]["bank:breaker"]
        assert (check["observedValue"], check["status"], body["status"]) == ("open", "warn", "warn")
        assert "refused" not in str(body)

    @pytest.mark.parametrize(
        ("mode", "status"), [("force_open", "warn"), ("force_closed", "pass"), ("disabled", "pass")]
    )
    def test_an_override_is_told_and_one_that_keeps_calls_away_warns(
        self, hf: LocalHoldfast, mode: str, status: str
    ) -> None:
        hf.call("bank", lambda: 1)
        hf.override("bank", mode, reason="bank is moving")

        body = ask()

        (check,) = body["checks"]["bank:breaker"]
        assert (check["observedValue"], check["status"]) == (mode, status)
        assert "moving" not in str(body)


class TestReadOnly:
    def test_it_warns_and_keeps_the_reason(self, hf: LocalHoldfast) -> None:
        hf.engage("read-only", kind="read_only", reason="primary failing over")

        body = ask()

        (check,) = body["checks"]["holdfast:read_only"]
        assert (check["observedValue"], check["status"]) == (True, "warn")
        assert "failing over" not in str(body)


class TestPolicy:
    def test_without_a_server_there_is_none(self, hf: LocalHoldfast) -> None:
        (check,) = ask()["checks"]["holdfast:policy"]

        assert (check["observedValue"], check["status"]) == (None, "warn")

    def test_its_age_is_told_and_no_token_and_the_first_question_starts_the_client(
        self, tmp_path: Any
    ) -> None:
        with PolicyServer() as server:
            server.publish(document(1))
            hf = Holdfast(server.url, TOKEN, service="checkout", cache_dir=tmp_path, timing=QUICK)
            with site(hf):
                eventually(lambda: ask()["status"] == "pass")
                body = ask()
            hf.close()

        (check,) = body["checks"]["holdfast:policy"]
        assert 0 <= check["observedValue"] < 10
        assert check["observedUnit"] == "s"
        assert TOKEN not in str(body)
        assert server.url not in str(body)

    def test_a_stale_one_warns(self, hf: LocalHoldfast) -> None:
        hf.set_stale()

        assert ask()["status"] == "warn"
