"""Read-only mode and request counts for any ASGI application.

    app = ReadOnlyMiddleware(app, hf, exempt=["/webhooks/payments", "/health/"])

Requests whose method is not safe (GET, HEAD, OPTIONS, TRACE) are answered 503 with
`application/problem+json` and `Retry-After` while a read-only flag is engaged. WebSocket and
lifespan pass through.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from holdfast._scope import RETRY_HEADER, within_retry
from holdfast.client import Holdfast
from holdfast.contrib._read_only import (
    CLIENT_LEFT,
    CONTENT_TYPE,
    Exempt,
    is_stopped,
    problem,
    retry_after,
)
from holdfast.errors import ReadOnly

__all__ = ["ReadOnlyMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class ReadOnlyMiddleware:
    """Stop what may write while a read-only flag is engaged, and count every request.

    Args:
        client: Answers whether a read-only flag is engaged; counts go into its reports.
        exempt: Paths that stay open: with a slash at the end everything below, else exactly it.
            They are compared with `scope["path"]`.
    """

    def __init__(self, app: App, client: Holdfast, *, exempt: Iterable[str] = ()) -> None:
        self._app = app
        self._client = client
        self._exempt = Exempt(exempt)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        started = time.perf_counter()
        try:
            await self._handle(scope, receive, answer)
        except asyncio.CancelledError:
            answer.status = answer.status or CLIENT_LEFT
            raise
        except Exception:
            answer.status = 500
            raise
        finally:
            self._client.count_request(answer.status or 500, time.perf_counter() - started)

    async def _handle(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        if is_stopped(self._client, scope["method"], scope["path"], self._exempt):
            await self._refuse(scope, answer)
            return
        try:
            with within_retry(any(name == _RETRY for name, _value in scope["headers"])):
                await self._app(scope, receive, answer.send)
        except ReadOnly:  # from the router, or from the application's own check
            if answer.status:
                raise  # half an answer is out already
            await self._refuse(scope, answer)

    async def _refuse(self, scope: Scope, answer: "_Answer") -> None:
        body = problem(scope["path"])
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(retry_after(self._client)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await answer.send({"type": "http.response.start", "status": 503, "headers": headers})
        await answer.send({"type": "http.response.body", "body": body})


_RETRY = RETRY_HEADER.lower().encode()


class _Answer:
    """Passes messages on, and remembers the status; 0 until there is one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
