"""POST /api/v1/redrives/claim that waits for letters, in front of Django.

Django answers at once, always: a view that waits would hold one of its few threads, and a
connection to the database. So the waiting is done here, on the event loop: an answer without
letters is put aside, and Django is asked again when there is news of redrives, until the time is
over. While it waits a request costs nothing but its memory.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from rest_framework.exceptions import APIException

from apps.core.bodies import Application, Message, Receive, Scope, Send, again_from, whole
from apps.core.errors import DomainError
from apps.core.parsers import MAX_BODY, unpacked
from apps.deadletters import selectors

PATH = re.compile(r"^/api/v1/redrives/claim/?$")
LONGEST_WAIT = 20.0  # seconds
LOOK_SECONDS = 2.0  # between two looks, where the news was lost
TOPIC = "redrives"


class Bearer(Protocol):
    """Whose token it is."""

    @property
    def environment_id(self) -> int: ...
    @property
    def service(self) -> str | None: ...


class Asked(msgspec.Struct):
    """The one member of the body that matters here; the view refuses what is wrong."""

    wait_seconds: float = 0.0


@dataclass(eq=False)
class Waiter:
    """A request that waits, and what ends its wait."""

    environment_id: int
    service: str | None  # that its token is bound to
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    is_gone: bool = False

    def wants(self, news: dict[str, Any]) -> bool:
        """Whether there may be letters for it."""
        is_here = news["environment_id"] == self.environment_id
        return is_here and news.get("service", self.service) in (self.service, None)

    async def until_gone(self, receive: Receive) -> None:
        """Notice that the client left, so that no letters are taken for it."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self.woken.set()


class Waiters:
    """Who waits in this process; told by the bus, and by a look at the database every 2 s."""

    def __init__(self) -> None:
        self._waiting: set[Waiter] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, waiter: Waiter) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting.add(waiter)

    def leave(self, waiter: Waiter) -> None:
        self._waiting.discard(waiter)

    def hear(self, news: dict[str, Any]) -> None:
        """Wake those whom news `{environment_id, service?}` is for; on the loop."""
        for waiter in self._waiting:
            if waiter.wants(news):
                waiter.woken.set()

    def look(self, _stopping: object = None) -> None:
        """Wake those for whose service there is work; for a thread of its own."""
        loop, waiting = self._loop, list(self._waiting)
        if loop is None or loop.is_closed() or not waiting:
            return
        for environment_id, service in selectors.with_work(
            {each.environment_id for each in waiting}
        ):
            news = {"environment_id": environment_id, "service": service}
            loop.call_soon_threadsafe(self.hear, news)

    def open(self) -> None:
        """Let whoever comes wait; the server starts."""
        self.is_draining = False

    def drain(self) -> None:
        """Let everybody have an answer now; the server stops."""
        self.is_draining = True
        for waiter in self._waiting:
            waiter.woken.set()


waiters = Waiters()


class ClaimsGate:
    """An ASGI application for the path of claims.

    Args:
        django: Answers every request, at once.
        bearer_of: Who sends this `Authorization` header, from memory; None if that is not known.
    """

    def __init__(self, django: Application, bearer_of: Callable[[str], Bearer | None]) -> None:
        self._django = django
        self._bearer_of = bearer_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        messages = await whole(receive, MAX_BODY)
        bearer = self._bearer_of(_header(scope, b"authorization"))
        seconds = 0.0 if messages[-1].get("more_body", True) else _wait(scope, messages)
        if bearer is None or seconds <= 0:
            await self._django(scope, again_from(messages, receive), send)
            return
        waiter = Waiter(bearer.environment_id, bearer.service)
        waiters.join(waiter)  # before the first look, so that no news falls between
        leaving = asyncio.create_task(waiter.until_gone(receive))
        try:
            answer = await self._answer(scope, messages, waiter, seconds)
        finally:
            waiters.leave(waiter)
            leaving.cancel()
        for message in answer.messages:
            await send(message)

    async def _answer(
        self, scope: Scope, messages: list[Message], waiter: Waiter, seconds: float
    ) -> "Answer":
        """The first answer with letters, or with a refusal; else the last one."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            waiter.woken.clear()
            answer = await self._ask(scope, messages)
            # Only the wait is cut short, never a question: letters it takes must be answered with.
            left = until - loop.time()
            if not answer.is_empty or left <= 0 or waiters.is_draining:
                return answer
            try:
                await asyncio.wait_for(waiter.woken.wait(), left)
            except TimeoutError:
                return answer
            if waiter.is_gone:
                return answer

    async def _ask(self, scope: Scope, messages: list[Message]) -> "Answer":
        answer = Answer()
        ended = asyncio.Event()
        waiting = iter(messages)

        async def receive() -> Message:
            message = next(waiting, None)
            if message is None:
                await ended.wait()  # Django asks whether the client is gone; it is not its concern
                return {"type": "http.disconnect"}
            return message

        await self._django(dict(scope), receive, answer.take)
        ended.set()
        return answer


@dataclass
class Answer:
    """What Django said."""

    messages: list[Message] = field(default_factory=list)

    async def take(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def is_empty(self) -> bool:
        """Whether all is well, and there are no letters."""
        body = b"".join(message.get("body", b"") for message in self.messages)
        return self.messages[0]["status"] == 200 and body == b'{"items":[]}'


def _header(scope: Scope, name: bytes) -> str:
    """The one header of this name; empty for none or several."""
    found = [value for given, value in scope["headers"] if given.lower() == name]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _wait(scope: Scope, messages: list[Message]) -> float:
    """How long the client would wait, in seconds; 0 where that cannot be read."""
    body = b"".join(message.get("body", b"") for message in messages)
    try:
        body = unpacked(body, _header(scope, b"content-encoding"), limit=MAX_BODY)
        return min(msgspec.json.decode(body, type=Asked).wait_seconds, LONGEST_WAIT)
    except (DomainError, APIException, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0.0
