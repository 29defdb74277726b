"""Read-only mode in any ASGI application."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest

from holdfast import ReadOnly
from holdfast.contrib.asgi import ReadOnlyMiddleware, Receive, Scope, Send
from sdk.tests.contrib.switch import Switch

SAFE = ["GET", "HEAD", "OPTIONS", "TRACE"]
UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "LOCK", "PROPPATCH", "PURGE", "post"]


class Shop:
    """An application that answers as its path says, and remembers what reached it."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.entered = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached.append(scope["type"])
        if scope["type"] != "http":
            return
        self.entered.set()
        if scope["path"] == "/endless":
            await asyncio.sleep(3600)
        if scope["path"] == "/refusing":
            raise ReadOnly("orders", flag="read-only")
        if scope["path"] == "/broken":
            raise RuntimeError("bug")
        status = 404 if scope["path"] == "/missing" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        if scope["path"] == "/late":
            raise ReadOnly("orders", flag="read-only")
        await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def ask(switch: Switch, shop: Shop, method: str, path: str = "/") -> httpx.Response:
    app = ReadOnlyMiddleware(shop, switch.client, exempt=["/hooks/payments", "/open/"])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.request(method, path)


class TestMethods:
    @pytest.mark.parametrize("method", UNSAFE)
    async def test_whatever_may_write_is_refused_before_it_reaches_the_application(
        self, switch: Switch, shop: Shop, method: str
    ) -> None:
        switch.engage(seconds=89.5)

        response = await ask(switch, shop, method)

        assert (response.status_code, response.headers["retry-after"]) == (503, "90")
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "read_only"
        assert shop.reached == []

    @pytest.mark.parametrize("method", SAFE)
    async def test_reading_goes_on(self, switch: Switch, shop: Shop, method: str) -> None:
        switch.engage()

        assert (await ask(switch, shop, method)).status_code == 200

    @pytest.mark.parametrize("method", SAFE + UNSAFE)
    async def test_without_a_flag_nothing_is_refused(
        self, switch: Switch, shop: Shop, method: str
    ) -> None:
        assert (await ask(switch, shop, method)).status_code == 200

    @pytest.mark.parametrize("path", ["/hooks/payments", "/open/a"])
    async def test_exempt_paths_stay_open(self, switch: Switch, shop: Shop, path: str) -> None:
        switch.engage()

        assert (await ask(switch, shop, "POST", path)).status_code == 200

    @pytest.mark.parametrize("path", ["/hooks/payments2", "/open", "/a/open/", "/open/%2e%2e/x"])
    async def test_what_only_resembles_an_exempt_path_does_not(
        self, switch: Switch, shop: Shop, path: str
    ) -> None:
        switch.engage()

        assert (await ask(switch, shop, "POST", path)).status_code == 503


class TestOtherScopes:
    @pytest.mark.parametrize("kind", ["websocket", "lifespan"])
    async def test_they_pass_through(self, switch: Switch, shop: Shop, kind: str) -> None:
        switch.engage()

        await ReadOnlyMiddleware(shop, switch.client)({"type": kind}, nothing, nowhere)

        assert shop.reached == [kind]
        assert switch.requests["count"] == 0


class TestRefusalFromWithin:
    async def test_it_becomes_the_same_answer(self, switch: Switch, shop: Shop) -> None:
        response = await ask(switch, shop, "GET", "/refusing")

        assert response.status_code == 503

    async def test_a_second_answer_is_never_begun(self, switch: Switch, shop: Shop) -> None:
        with pytest.raises(ReadOnly):
            await ask(switch, shop, "GET", "/late")


class TestCounts:
    async def test_requests_are_counted_by_status(self, switch: Switch, shop: Shop) -> None:
        await ask(switch, shop, "GET")
        await ask(switch, shop, "GET", "/missing")
        with pytest.raises(RuntimeError):
            await ask(switch, shop, "GET", "/broken")

        counted = switch.requests

        assert (counted["count"], counted["4xx"], counted["5xx"]) == (3, 1, 1)

    async def test_an_answer_that_breaks_off_counts_as_an_error(
        self, switch: Switch, shop: Shop
    ) -> None:
        with pytest.raises(ReadOnly):
            await ask(switch, shop, "GET", "/late")

        assert switch.requests["5xx"] == 1

    async def test_a_client_that_left_counts_as_such(self, switch: Switch, shop: Shop) -> None:
        task = asyncio.ensure_future(ask(switch, shop, "GET", "/endless"))
        await shop.entered.wait()

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert switch.requests["4xx"] == 1


async def nothing() -> MutableMapping[str, Any]:
    raise AssertionError("nobody asks")


async def nowhere(message: MutableMapping[str, Any]) -> None:
    raise AssertionError("nobody answers")
