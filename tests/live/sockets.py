"""A viewer of the wall as a test needs one: it connects, reads frames, and may stop reading."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from django.test import Client

from apps.live.routing import websockets

SECONDS = 10.0  # a test that waits longer has failed
ORIGIN = "http://localhost"


def cookies_of(browser: Client) -> str:
    """The browser's cookies, as the header it would send."""
    return "; ".join(f"{name}={morsel.value}" for name, morsel in browser.cookies.items())


class Socket:
    """One connection to `/ws/wall/`. A paused one takes nothing, like a reader that is stuck."""

    def __init__(self, browser: Client, query: str = "", *, origin: str = ORIGIN) -> None:
        self._headers = {"host": "localhost", "origin": origin, "cookie": cookies_of(browser)}
        self._query = query
        self.frames: list[dict[str, Any]] = []
        self.is_accepted = False
        self.close_code: int | None = None
        self.reads = asyncio.Event()
        self.reads.set()
        self.is_sending = asyncio.Event()  # something was sent that has not been taken yet
        self._leaves = asyncio.Event()
        self._is_connected = False
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        scope = {
            "type": "websocket",
            "path": "/ws/wall/",
            "query_string": self._query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in self._headers.items()],
            "subprotocols": [],
        }
        await websockets(scope, self._receive, self._send)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(is_so)

    async def frame_where(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The newest frame, once it is as wanted."""
        await self.until(lambda: bool(self.frames) and is_so(self.frames[-1]))
        return self.frames[-1]

    def leave(self) -> None:
        self._leaves.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._is_connected:
            self._is_connected = True
            return {"type": "websocket.connect"}
        await self._leaves.wait()
        return {"type": "websocket.disconnect", "code": 1001}

    async def _send(self, message: dict[str, Any]) -> None:
        self.is_sending.set()
        await self.reads.wait()
        self.is_sending.clear()
        async with self._changed:
            if message["type"] == "websocket.send":
                self.frames.append(json.loads(message["text"]))
            elif message["type"] == "websocket.accept":
                self.is_accepted = True
            else:
                self.close_code = message.get("code", 1000)
            self._changed.notify_all()


@asynccontextmanager
async def looking(browser: Client, query: str = "", **values: Any) -> AsyncIterator[Socket]:
    """A socket that was accepted or refused; it leaves at the end of the block."""
    socket = Socket(browser, query, **values)
    task = asyncio.create_task(socket.run())
    try:
        await socket.until(lambda: socket.is_accepted or socket.close_code is not None)
        yield socket
    finally:
        socket.reads.set()
        socket.leave()
        # A refused handshake is the last word of its application, so there may be nobody left.
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, SECONDS)


def kiosk(text: str) -> Client:
    """A screen that has swapped this token for its cookie, if it was let in."""
    browser = Client()
    browser.get("/wall/", {"token": text})
    return browser
