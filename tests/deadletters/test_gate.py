"""Claims that wait: on the loop, not in Django, and no longer than they must."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from apps.deadletters import gate
from apps.deadletters.gate import PATH, ClaimsGate, Waiters
from apps.fleet.models import Service
from tests import make

EMPTY, FULL = b'{"items":[]}', b'{"items":[{"id":1}]}'
SECONDS = 5.0  # what a test may take


@dataclass
class Bearer:
    environment_id: int = 3
    service: str | None = "checkout"


@dataclass
class Django:
    """Gives these answers, one a question, and keeps what it read."""

    answers: list[tuple[int, bytes]]
    bodies: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append((await receive())["body"])
        status, body = self.answers.pop(0)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})
        self.asked.set()


@pytest.fixture(autouse=True)
def waiters(monkeypatch: pytest.MonkeyPatch) -> Waiters:
    """Of a process in which nobody waits yet."""
    own = Waiters()
    monkeypatch.setattr(gate, "waiters", own)
    return own


class Client:
    """A claim under way."""

    def __init__(self, django: Django, wait: Any = 20, bearer: Bearer | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self._left = asyncio.Event()
        body = json.dumps({"handlers": ["a"], "wait_seconds": wait}).encode()
        self._waiting = [{"type": "http.request", "body": body, "more_body": False}]
        door = ClaimsGate(django, lambda text: (bearer or Bearer()) if text == "good" else None)
        scope = {"type": "http", "headers": [(b"authorization", b"good")]}
        self.task = asyncio.ensure_future(door(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._waiting:
            return self._waiting.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self._left.set()

    async def answer(self) -> tuple[int, bytes]:
        await asyncio.wait_for(self.task, SECONDS)
        return self.sent[0]["status"], self.sent[1]["body"]


class TestWaiting:
    async def test_letters_that_are_there_are_answered_at_once(self) -> None:
        django = Django([(200, FULL)])

        assert await Client(django).answer() == (200, FULL)

    async def test_news_ends_the_wait(self, waiters: Waiters) -> None:
        django = Django([(200, EMPTY), (200, FULL)])
        client = Client(django)
        await django.asked.wait()

        waiters.hear({"environment_id": 3})

        assert await client.answer() == (200, FULL)
        assert len(set(django.bodies)) == 1
        assert len(waiters) == 0

    @pytest.mark.parametrize(
        "news", [{"environment_id": 4}, {"environment_id": 3, "service": "other"}]
    )
    async def test_news_of_others_does_not(self, waiters: Waiters, news: dict[str, Any]) -> None:
        django = Django([(200, EMPTY)])
        client = Client(django, wait=0.05)
        await django.asked.wait()

        waiters.hear(news)

        assert await client.answer() == (200, EMPTY)

    async def test_when_the_time_is_over_the_answer_is_empty(self, waiters: Waiters) -> None:
        django = Django([(200, EMPTY)])

        assert await Client(django, wait=0.02).answer() == (200, EMPTY)
        assert len(waiters) == 0

    async def test_a_token_revoked_meanwhile_is_told(self, waiters: Waiters) -> None:
        django = Django([(200, EMPTY), (401, b"{}")])
        client = Client(django)
        await django.asked.wait()

        waiters.hear({"environment_id": 3, "service": "checkout"})

        assert await client.answer() == (401, b"{}")

    async def test_nothing_is_taken_for_a_client_that_left(self, waiters: Waiters) -> None:
        django = Django([(200, EMPTY)])  # a second question would fail
        client = Client(django)
        await django.asked.wait()

        client.leave()
        await client.answer()

        assert len(waiters) == 0

    async def test_everybody_is_answered_before_the_server_stops(self, waiters: Waiters) -> None:
        django = Django([(200, EMPTY), (200, EMPTY)])
        client = Client(django)
        await django.asked.wait()

        waiters.drain()

        assert await client.answer() == (200, EMPTY)

    @pytest.mark.parametrize("wait", [0, -1, None, "x", {}])
    async def test_without_a_time_to_wait_django_answers(self, wait: Any) -> None:
        django = Django([(400, b"{}")])

        assert await Client(django, wait=wait).answer() == (400, b"{}")

    @pytest.mark.parametrize("path", ["/api/v1/redrives/claim", "/api/v1/redrives/claim/"])
    def test_the_path_has_a_slash_or_none(self, path: str) -> None:
        assert PATH.match(path)
        assert not PATH.match(path + "/x")


@pytest.mark.django_db(transaction=True)
class TestLook:
    @pytest.fixture
    async def service(self) -> AsyncIterator[Service]:
        yield await sync_to_async(make.service)(slug="checkout")
        await sync_to_async(connections.close_all)()  # of the thread that did the database's work

    async def test_work_without_news_is_found(self, waiters: Waiters, service: Service) -> None:
        letters = await sync_to_async(make.letters)(service)
        django = Django([(200, EMPTY), (200, FULL)])
        client = Client(django, bearer=Bearer(service.environment_id))
        await django.asked.wait()

        await sync_to_async(make.redrive)(*letters)
        await sync_to_async(waiters.look)()

        assert await client.answer() == (200, FULL)

    async def test_without_work_nobody_is_woken(self, waiters: Waiters, service: Service) -> None:
        django = Django([(200, EMPTY)])
        client = Client(django, wait=0.1, bearer=Bearer(service.environment_id))
        await django.asked.wait()

        await sync_to_async(waiters.look)()

        assert await client.answer() == (200, EMPTY)
