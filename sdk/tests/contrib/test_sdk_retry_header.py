"""Retries do not multiply from one service to the next: whoever serves a retry does not retry."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings

from holdfast.contrib import asgi, wsgi
from holdfast.contrib.django import ReadOnlyMiddleware
from holdfast.testing import LocalHoldfast

Serve = Callable[[LocalHoldfast, dict[str, str]], int]
"""Serves one request with these headers, whose guarded call fails; returns its attempts."""

shop: LocalHoldfast  # the test's, for Django's setting


def attempts(hf: LocalHoldfast) -> int:
    def fail() -> None:
        raise OSError

    return hf.try_call("bank", fail).attempts


def by_asgi(hf: LocalHoldfast, headers: dict[str, str]) -> int:
    made: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        made.append(attempts(hf))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask() -> None:
        transport = httpx.ASGITransport(asgi.ReadOnlyMiddleware(app, hf))
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            await client.get("/", headers=headers)

    asyncio.run(ask())
    return made[0]


def by_wsgi(hf: LocalHoldfast, headers: dict[str, str]) -> int:
    made: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        made.append(attempts(hf))
        start_response("200 OK", [])
        return [b""]

    transport = httpx.WSGITransport(app=wsgi.ReadOnlyMiddleware(app, hf), wsgi_errors=io.StringIO())
    with httpx.Client(transport=transport, base_url="http://shop") as client:
        client.get("/", headers=headers)
    return made[0]


def by_django(hf: LocalHoldfast, headers: dict[str, str]) -> int:
    made: list[int] = []

    def view(request: HttpRequest) -> HttpResponse:
        made.append(attempts(hf))
        return HttpResponse()

    with served(hf):
        ReadOnlyMiddleware(view)(RequestFactory().get("/", headers=headers))
    return made[0]


def by_django_async(hf: LocalHoldfast, headers: dict[str, str]) -> int:
    made: list[int] = []

    async def view(request: HttpRequest) -> HttpResponse:
        made.append(attempts(hf))
        return HttpResponse()

    async def ask() -> None:
        await ReadOnlyMiddleware(view)(RequestFactory().get("/", headers=headers))

    with served(hf):
        asyncio.run(ask())
    return made[0]


def served(hf: LocalHoldfast) -> Any:
    global shop
    shop = hf
    return override_settings(HOLDFAST={"client": f"{__name__}.shop"})


@pytest.fixture(params=[by_asgi, by_wsgi, by_django, by_django_async])
def serve(request: pytest.FixtureRequest) -> Serve:
    found: Serve = request.param
    return found


def test_a_first_attempt_is_retried_further_in(serve: Serve) -> None:
    assert serve(LocalHoldfast(), {}) == 3


def test_a_retry_is_not_retried_again_further_in(serve: Serve) -> None:
    assert serve(LocalHoldfast(), {"Holdfast-Retry": "1"}) == 1


def test_the_next_request_is_not_taken_for_one(serve: Serve) -> None:
    hf = LocalHoldfast()
    serve(hf, {"Holdfast-Retry": "1"})

    assert serve(hf, {}) == 3
