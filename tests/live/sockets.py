"""A viewer of the wall as a test needs one: it connects, reads frames, and may stop reading."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from django.test import Client

from apps.live.routing import websockets
from apps.live.rules.deltas import NAMED_BY

SECONDS = 10.0  # a test that waits longer has failed
ORIGIN = "http://localhost"


def cookies_of(browser: Client) -> str:
    """The browser's cookies, as the header it would send."""
    return "; ".join(f"{name}={morsel.value}" for name, morsel in browser.cookies.items())


def patched(before: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """What a change makes of a frame, a service or a tile: the page's deltas.js, once more."""
    return before | {
        name: _patched_list(before.get(name, []), value, NAMED_BY[name])
        if name in NAMED_BY
        else value
        for name, value in change.items()
    }


def _patched_list(
    before: list[dict[str, Any]], change: dict[str, Any], key: str
) -> list[dict[str, Any]]:
    had = {each[key]: each for each in before}
    order = change.get("order", list(had))
    return [patched(had.get(name, {}), change["set"].get(name, {})) for name in order]


class Socket:
    """One connection to `/ws/wall/`. A paused one takes nothing, like a reader that is stuck.

    One that does not `answer` takes frames, and never says that it shows them.
    """

    def __init__(
        self, browser: Client, query: str = "", *, origin: str = ORIGIN, answers: bool = True
    ) -> None:
        self.answers = answers
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
        self.deltas = 0  # how many frames came as what had changed
        self.texts: list[str] = []  # as they came
        self._says: asyncio.Queue[str] = asyncio.Queue()
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

    def say(self, text: str) -> None:
        self._says.put_nowait(text)

    def _show(self, text: str) -> None:
        """As the page does: put in what changed, and say which frame is shown."""
        message = json.loads(text)
        self.texts.append(text)
        if message["type"] == "delta":
            self.deltas += 1
            assert message["base"] == self.frames[-1]["sequence"]
            message = patched(self.frames[-1], message["change"])
        self.frames.append(message)
        if self.answers:
            self.say(str(message["sequence"]))

    def leave(self) -> None:
        self._leaves.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._is_connected:
            self._is_connected = True
            return {"type": "websocket.connect"}
        said = asyncio.create_task(self._says.get())
        leaves = asyncio.create_task(self._leaves.wait())
        await asyncio.wait({said, leaves}, return_when=asyncio.FIRST_COMPLETED)
        leaves.cancel()
        if said.done():
            return {"type": "websocket.receive", "text": said.result()}
        said.cancel()
        return {"type": "websocket.disconnect", "code": 1001}

    async def _send(self, message: dict[str, Any]) -> None:
        self.is_sending.set()
        await self.reads.wait()
        self.is_sending.clear()
        async with self._changed:
            if message["type"] == "websocket.send":
                self._show(message["text"])
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
