"""Guards every request of an httpx client, sync and async.

    client = httpx.Client(transport=GuardedTransport(hf, "payments-api"))
    client = httpx.AsyncClient(transport=AsyncGuardedTransport(hf, {"api.bank.com": "bank"}))

A request is guarded until its headers are answered; reading the body is not. The answers 408, 425,
429, 500, 502, 503 and 504 are failures of the dependency and retried as the policy says, with their
`Retry-After`; other errors (400, 404, …) are permanent ones. Whatever is not retried further, or
answered by a fallback, reaches the caller as the answer it is, not as an exception. Rejections
(`CircuitOpen`, `RateLimited`, …) are raised.

GET, HEAD, OPTIONS, TRACE, PUT, DELETE, and whatever carries an `Idempotency-Key`, are repeated if
the policy allows; others only if nothing was sent or the answer was 429; requests whose body is
produced while it is sent, never.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Self

import httpx

from holdfast._outcome import Outcome
from holdfast._scope import RETRY_HEADER, is_retry
from holdfast.client import Holdfast
from holdfast.contrib._http import (
    FALLBACK_HEADER,
    FIRST_ERROR,
    CallSpan,
    Dependency,
    Others,
    checked,
    name_of,
    options_of,
    span_of,
    within_deadline,
)

__all__ = ["AsyncGuardedTransport", "GuardedTransport"]


class GuardedTransport(httpx.BaseTransport):
    """Sends requests through another transport, each one guarded.

    Args:
        client: Whose policy holds.
        dependency: The name all requests are guarded by; or host → name; or None: each host by its
            own name.
        others: What becomes of hosts such a mapping does not name: "unguarded" or "by_host".
        transport: Sends the requests; an `httpx.HTTPTransport` by default.
        fallback: The function named "function" in the fallback chain: request → response.
    """

    def __init__(
        self,
        client: Holdfast,
        dependency: Dependency = None,
        *,
        others: Others = "unguarded",
        transport: httpx.BaseTransport | None = None,
        fallback: Callable[[httpx.Request], httpx.Response] | None = None,
    ) -> None:
        self._client = client
        self._dependency = dependency
        self._others = checked(others)
        self._transport = transport or httpx.HTTPTransport()
        self._fallback = fallback

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request; raises what httpx does, `Rejected` and `CallTimeout`."""
        name = name_of(self._dependency, request.url.host, self._others)
        if name is None:
            return self._transport.handle_request(request)
        options = _options(request, self._fallback)
        with _Exchange(request) as exchange:
            with span_of(self._client, name) as span:

                def send(request: httpx.Request) -> httpx.Response:
                    for failed in exchange.failures():
                        failed.close()
                    answer = self._transport.handle_request(exchange.limited(span))
                    return exchange.judged(answer)

                outcome = span.tell(self._client._engine.try_with(name, send, options, request))
            return exchange.answer(outcome)

    def close(self) -> None:
        """Close the transport underneath."""
        self._transport.close()


class AsyncGuardedTransport(httpx.AsyncBaseTransport):
    """As `GuardedTransport`, for an `httpx.AsyncClient`; `fallback` may be a coroutine function."""

    def __init__(
        self,
        client: Holdfast,
        dependency: Dependency = None,
        *,
        others: Others = "unguarded",
        transport: httpx.AsyncBaseTransport | None = None,
        fallback: Callable[[httpx.Request], Any] | None = None,
    ) -> None:
        self._client = client
        self._dependency = dependency
        self._others = checked(others)
        self._transport = transport or httpx.AsyncHTTPTransport()
        self._fallback = fallback

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As `GuardedTransport.handle_request`."""
        name = name_of(self._dependency, request.url.host, self._others)
        if name is None:
            return await self._transport.handle_async_request(request)
        options = _options(request, self._fallback)
        async with _Exchange(request) as exchange:
            with span_of(self._client, name) as span:

                async def send(request: httpx.Request) -> httpx.Response:
                    for failed in exchange.failures():
                        await failed.aclose()
                    answer = await self._transport.handle_async_request(exchange.limited(span))
                    return exchange.judged(answer)

                call = self._client._engine.try_with_async(name, send, options, request)
                outcome = span.tell(await call)
            return exchange.answer(outcome)

    async def aclose(self) -> None:
        """Close the transport underneath."""
        await self._transport.aclose()


class _Exchange:
    """One request through all its attempts, two copies of one at a time if it is hedged.

    At its end all the answers it got are closed, but the one the caller gets.
    """

    def __init__(self, request: httpx.Request) -> None:
        self._request = request
        self._failed: list[httpx.Response] = []
        self._good: list[httpx.Response] = []
        self._kept: httpx.Response | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for response in self._left():
            response.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        for response in self._left():
            await response.aclose()

    def failures(self) -> list[httpx.Response]:
        """Answers that were failures, for whoever tries again to close them first."""
        taken, self._failed = self._failed, []
        return taken

    def limited(self, span: CallSpan) -> httpx.Request:
        """The request, held to what is left of the guarded call, with the span's context."""
        asked = self._request.extensions.get("timeout", {})
        headers = self._request.headers.copy()
        headers.update(span.headers())
        if is_retry():
            headers[RETRY_HEADER] = "1"
        limits = {name: within_deadline(asked.get(name)) for name in _PHASES}
        return httpx.Request(
            self._request.method,
            self._request.url,
            headers=headers,
            stream=self._request.stream,
            extensions={**self._request.extensions, "timeout": limits},
        )

    def judged(self, response: httpx.Response) -> httpx.Response:
        """The answer; raises httpx.HTTPStatusError if it is an error, for the policy to judge."""
        if response.status_code < FIRST_ERROR:
            self._good.append(response)
            return response
        self._failed.append(response)
        text = f"answered {response.status_code}"
        raise httpx.HTTPStatusError(text, request=self._request, response=response)

    def answer(self, outcome: Outcome[Any]) -> httpx.Response:
        """What the caller gets; raises what there is instead of an answer."""
        error = outcome.error
        if isinstance(error, httpx.HTTPStatusError) and error.response in self._failed:
            self._kept = error.response
            return self._kept
        value = outcome.unwrap()
        if isinstance(value, httpx.Response):
            self._kept = value
            return value
        headers = {FALLBACK_HEADER: outcome.source, "Content-Type": "application/json"}
        return httpx.Response(200, headers=headers, content=json.dumps(value).encode())

    def _left(self) -> list[httpx.Response]:
        return [each for each in (*self._failed, *self._good) if each is not self._kept]


_PHASES = ("connect", "read", "write", "pool")


def _options(request: httpx.Request, fallback: Callable[..., Any] | None) -> Any:
    return options_of(
        request.method,
        has_key="Idempotency-Key" in request.headers,
        is_replayable=isinstance(request.stream, httpx.ByteStream),
        fallback=fallback,
    )
