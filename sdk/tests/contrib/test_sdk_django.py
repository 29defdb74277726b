"""Read-only mode in Django: no method and no route slips through, and nothing else is stopped."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings

from holdfast import ReadOnly
from holdfast.contrib.django import ReadOnlyMiddleware, client
from sdk.tests.contrib import shop
from sdk.tests.contrib.switch import Switch

SAFE = ["GET", "HEAD", "OPTIONS", "TRACE"]
UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "LOCK", "PROPPATCH", "PURGE", "post"]
ROUTES = ["/plain", "/unhurried", "/orders/", "/no/such/page", "/missing", "/openly", "/"]

SITE: dict[str, Any] = {
    "ROOT_URLCONF": "sdk.tests.contrib.shop",
    "TEMPLATES": [],
    "MIDDLEWARE": ["holdfast.contrib.django.ReadOnlyMiddleware"],
    "DATABASE_ROUTERS": ["holdfast.contrib.django.ReadOnlyRouter"],
    "HOLDFAST": {
        "client": "sdk.tests.contrib.shop.hf",
        "exempt": ["/hooks/payments", "/open/"],
    },
}


@pytest.fixture(autouse=True)
def site(switch: Switch) -> Iterator[None]:
    shop.hf = switch.client
    with override_settings(**SITE):
        yield


def ask(method: str, path: str) -> HttpResponse:
    response = Client(raise_request_exception=False).generic(method, path)
    assert isinstance(response, HttpResponse)
    return response


class TestMethods:
    @pytest.mark.parametrize("path", ROUTES)
    @pytest.mark.parametrize("method", UNSAFE)
    def test_whatever_may_write_is_refused_on_every_route(
        self, switch: Switch, method: str, path: str
    ) -> None:
        switch.engage()

        response = ask(method, path)

        assert response.status_code == 503
        assert response["Content-Type"] == "application/problem+json"

    @pytest.mark.parametrize("method", UNSAFE)
    async def test_nor_does_it_slip_through_an_async_stack(
        self, switch: Switch, method: str
    ) -> None:
        switch.engage()

        response = await AsyncClient().generic(method, "/unhurried")

        assert response.status_code == 503

    @pytest.mark.parametrize("method", SAFE)
    def test_reading_goes_on(self, switch: Switch, method: str) -> None:
        switch.engage()

        assert ask(method, "/plain").status_code == 200

    @pytest.mark.parametrize("method", SAFE)
    async def test_reading_goes_on_in_an_async_stack(self, switch: Switch, method: str) -> None:
        switch.engage()

        response = await AsyncClient().generic(method, "/unhurried")

        assert response.status_code == 200

    @pytest.mark.parametrize("method", SAFE + UNSAFE)
    def test_without_a_flag_nothing_is_refused(self, switch: Switch, method: str) -> None:
        assert ask(method, "/plain").status_code == 200

    def test_writing_goes_on_when_the_flag_has_ended(self, switch: Switch) -> None:
        switch.engage()
        switch.end()

        assert ask("POST", "/plain").status_code == 200

    def test_writing_goes_on_when_the_lease_is_over(self, switch: Switch) -> None:
        switch.engage(seconds=60)
        before = ask("POST", "/plain").status_code

        switch.clock.advance(61)

        assert (before, ask("POST", "/plain").status_code) == (503, 200)


class TestAnswer:
    def test_it_is_a_problem_with_a_code_and_keeps_the_operators_words(
        self, switch: Switch
    ) -> None:
        switch.engage()

        response = Client().post("/plain")

        assert response.json()["code"] == "read_only"
        assert response.json()["status"] == 503
        assert response["Cache-Control"] == "no-store"
        assert "primary failing over" not in response.content.decode()

    @pytest.mark.parametrize(
        ("seconds", "retry_after"), [(None, "30"), (89.5, "90"), (0.2, "1"), (86_400.0, "3600")]
    )
    def test_it_says_when_to_come_back(
        self, switch: Switch, seconds: float | None, retry_after: str
    ) -> None:
        switch.engage(seconds=seconds)

        assert ask("POST", "/plain")["Retry-After"] == retry_after


class TestExempt:
    @pytest.mark.parametrize("path", ["/hooks/payments", "/open/", "/open/a/b"])
    def test_exempt_paths_stay_open(self, switch: Switch, path: str) -> None:
        switch.engage()

        assert ask("POST", path).status_code == 200

    @pytest.mark.parametrize(
        "path",
        [
            "/hooks/payments/refund",
            "/hooks/payments2",
            "/orders/open/",
            "/maintenance/open/",
            "/open/../orders/",
            "/open",
            "//open/",
            "/OPEN/",
        ],
    )
    def test_what_only_resembles_an_exempt_path_does_not(self, switch: Switch, path: str) -> None:
        switch.engage()

        assert ask("POST", path).status_code == 503

    def test_a_path_without_slash_is_a_mistake_told_at_the_start(self, switch: Switch) -> None:
        with (
            override_settings(HOLDFAST={**SITE["HOLDFAST"], "exempt": ["open/"]}),
            pytest.raises(ValueError, match="start with a slash"),
        ):
            ReadOnlyMiddleware(lambda request: HttpResponse())


class TestRouter:
    def test_a_page_that_writes_while_it_is_read_is_refused(self, switch: Switch) -> None:
        before = ask("GET", "/writing").status_code

        switch.engage()

        assert (before, ask("GET", "/writing").status_code) == (200, 503)

    def test_the_refusal_says_what_and_why(self, switch: Switch) -> None:
        switch.engage(seconds=60)

        with pytest.raises(ReadOnly) as refused:
            router.db_for_write(ContentType)

        assert refused.value.dependency == "contenttypes.ContentType"
        assert refused.value.flag == "read-only"
        assert refused.value.retry_after == 60.0

    def test_sessions_and_logins_may_be_written(self, switch: Switch) -> None:
        switch.engage()

        assert router.db_for_write(Session) == "default"
        assert router.db_for_write(get_user_model()) == "default"
        assert ask("GET", "/session").status_code == 200

    def test_reading_is_never_refused(self, switch: Switch) -> None:
        switch.engage()

        assert router.db_for_read(ContentType) == "default"

    def test_the_list_can_name_models_and_apps(self, switch: Switch) -> None:
        switch.engage()

        with override_settings(HOLDFAST={**SITE["HOLDFAST"], "writable": ["contenttypes"]}):
            assert router.db_for_write(ContentType) == "default"
            with pytest.raises(ReadOnly):
                router.db_for_write(Session)


@pytest.mark.django_db  # closing an answer looks at the connection, if an earlier test left one
class TestCounts:
    def test_requests_are_counted_by_status(self, switch: Switch) -> None:
        switch.engage()
        for path in ["/plain", "/missing", "/broken"]:
            ask("GET", path)
        ask("POST", "/plain")

        counted = switch.requests

        assert (counted["count"], counted["4xx"], counted["5xx"]) == (4, 1, 2)
        assert sum(counted["latency"].values()) == 4

    async def test_requests_of_an_async_stack_are_counted(self, switch: Switch) -> None:
        await AsyncClient().get("/unhurried")

        assert switch.requests["count"] == 1

    @pytest.mark.parametrize("path", ["/parts", "/file"])
    def test_an_answer_in_parts_is_counted_when_it_is_out(self, switch: Switch, path: str) -> None:
        response: Any = Client().get(path)
        before = switch.requests["count"]

        assert b"".join(response.streaming_content).endswith(b"done")

        assert (before, switch.requests["count"]) == (0, 1)

    def test_one_that_breaks_off_counts_as_an_error(self, switch: Switch) -> None:
        response: Any = Client().get("/parts?break")

        with pytest.raises(RuntimeError):
            list(response.streaming_content)

        counted = switch.requests
        assert (counted["count"], counted["5xx"]) == (1, 1)

    def test_one_whose_client_left_is_counted(self, switch: Switch) -> None:
        response: Any = Client().get("/parts")
        next(iter(response.streaming_content))

        response.close()

        assert switch.requests["count"] == 1

    def test_one_nobody_read_is_counted(self, switch: Switch) -> None:
        response: Any = Client().get("/parts")

        response.close()

        assert switch.requests["count"] == 1

    def test_servers_may_still_send_files_themselves(self) -> None:
        response: Any = ReadOnlyMiddleware(shop.file)(RequestFactory().get("/file"))

        assert response.file_to_stream is not None
        response.close()

    @pytest.mark.parametrize(("query", "errors"), [("", 0), ("?break", 1)])
    async def test_answers_in_parts_of_an_async_stack(
        self, switch: Switch, query: str, errors: int
    ) -> None:
        response: Any = await AsyncClient().get(f"/parts-async{query}")

        with contextlib.suppress(RuntimeError):
            async for _part in response.streaming_content:
                pass
        response.close()

        counted = switch.requests
        assert (counted["count"], counted["5xx"]) == (1, errors)

    async def test_a_client_that_left_counts_as_such(self, switch: Switch) -> None:
        entered = asyncio.Event()

        async def endless(request: HttpRequest) -> HttpResponse:
            entered.set()
            await asyncio.sleep(3600)
            return HttpResponse()

        request = HttpRequest()
        request.method = "GET"
        task = asyncio.ensure_future(ReadOnlyMiddleware(endless)(request))
        await entered.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert switch.requests["4xx"] == 1


class TestSettings:
    def test_without_a_client_one_is_made_from_the_environment(self) -> None:
        with override_settings(HOLDFAST={}):
            assert client() is client()
            assert client() is not shop.hf
            client().close()

    @pytest.mark.parametrize(
        "settings", [{"client": "sdk.tests.contrib.shop.not_a_client"}, {"exempts": []}]
    )
    def test_a_mistake_is_told_at_the_start(self, settings: dict[str, object]) -> None:
        with override_settings(HOLDFAST=settings), pytest.raises(ImproperlyConfigured):
            client()
