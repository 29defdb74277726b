"""Streams on an event loop of the test's own, without a socket: what is sent, and when."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from apps.accounts import services as accounts
from apps.accounts.models import ApiToken
from apps.core import clock
from apps.delivery import streams
from apps.delivery.state import State
from apps.delivery.streams import Stream, Streams
from apps.fleet.models import Environment
from apps.publication import services as publication
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 5.0  # a test that waits longer has failed


@dataclass
class Client:
    """One ASGI connection. A paused one takes nothing, like a reader whose network is stuck."""

    streams: Streams
    token: str
    service: str = "checkout"
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "GET"

    def __post_init__(self) -> None:
        self.status = 0
        self.answer_headers: dict[str, str] = {}
        self.text = ""
        self.is_complete = False
        self.reads = asyncio.Event()
        self.reads.set()
        self._leaves = asyncio.Event()
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        headers = {"host": "localhost", "authorization": f"Bearer {self.token}", **self.headers}
        scope = {
            "type": "http",
            "method": self.method,
            "path": f"/api/v1/policies/{self.service}/stream",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await self.streams(scope, self._receive, self._send)

    def leave(self) -> None:
        self._leaves.set()

    @property
    def events(self) -> list[tuple[str, Any]]:
        """(event, data) of all that came, without comments."""
        found = []
        for block in self.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "event" in fields:
                found.append((fields["event"], json.loads(fields["data"])))
        return found

    @property
    def names(self) -> list[str]:
        return [name for name, _data in self.events]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(is_so)

    async def _receive(self) -> dict[str, Any]:
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        async with self._changed:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.answer_headers = {
                    name.decode(): value.decode() for name, value in message["headers"]
                }
            else:
                self.text += message["body"].decode()
                self.is_complete = not message.get("more_body", False)
            self._changed.notify_all()


@dataclass
class World:
    """A process with open streams; `refresh` stands for its loop."""

    known: State
    where: Environment
    token: str
    streams: Streams
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def connect(self, **values: Any) -> Client:
        """A client whose greeting, or refusal, has come."""
        client = Client(self.streams, values.pop("token", self.token), **values)
        self.tasks.append(asyncio.create_task(client.run()))
        await client.until(lambda: "hello" in client.names or client.is_complete)
        return client

    async def publish(self, *pieces: Any) -> None:
        await sync_to_async(make.publish)(self.where, *pieces)
        await self.refresh("published")

    async def refresh(self, *news: str) -> None:
        for topic in news:
            self.known.hear(topic)
        await sync_to_async(self.known.refresh)()

    def stream_of(self, service: str) -> Stream:
        return next(each for each in self.streams.open if each.watched[1] == service)


@asynccontextmanager
async def opened(known: State, **settings: float) -> AsyncIterator[World]:
    where = await sync_to_async(make.environment)("production")
    _token, text = await sync_to_async(make.token)(where)
    world = World(known, where, text, Streams(known, **settings))
    await world.publish(make.use("checkout", "payments-api"), make.use("search", "index"))
    world.streams.start()
    try:
        yield world
    finally:
        world.streams.stop()
        for task in world.tasks:
            task.cancel()
        await asyncio.gather(*world.tasks, return_exceptions=True)
        await sync_to_async(connections.close_all)()  # of the thread that did the database's work


class TestGreeting:
    async def test_a_new_client_gets_hello_and_the_document(self, known: State) -> None:
        async with opened(known) as world:
            client = await world.connect()

        (hello, greeting), (document, whole) = client.events
        assert (hello, document) == ("hello", "document")
        assert set(greeting) == {"epoch", "server_time", "poll_seconds", "report_seconds"}
        assert whole["meta"]["revision"] == 1
        assert client.text.startswith("retry: 2000\n")
        assert f"id: {greeting['epoch']}:1\n" in client.text
        assert client.answer_headers["content-type"] == "text/event-stream"
        assert client.answer_headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in client.answer_headers

    async def test_a_client_that_is_current_gets_no_document(self, known: State) -> None:
        async with opened(known) as world:
            first = await world.connect()
            epoch = first.events[0][1]["epoch"]

            current = await world.connect(headers={"last-event-id": f"{epoch}:1"})
            behind = await world.connect(headers={"last-event-id": f"{epoch}:0"})

        assert (current.names, behind.names) == (["hello"], ["hello", "document"])

    @pytest.mark.parametrize(
        ("values", "status"),
        [
            ({"token": "hf_nonsense"}, 401),
            ({"method": "POST"}, 405),
            ({"service": "Not-A-Slug"}, 404),
            ({"headers": {"host": "elsewhere.example"}}, 400),
            ({"headers": {"host": ""}}, 400),
        ],
    )
    async def test_refusals_are_problems(
        self, known: State, values: dict[str, Any], status: int
    ) -> None:
        async with opened(known) as world:
            client = await world.connect(**values)

        assert (client.status, client.is_complete) == (status, True)
        assert client.answer_headers["content-type"] == "application/problem+json"
        assert json.loads(client.text)["status"] == status

    async def test_a_token_made_a_moment_ago_opens_a_stream(self, known: State) -> None:
        async with opened(known) as world:
            _token, text = await sync_to_async(make.token)(world.where)

            client = await world.connect(token=text)

        assert client.status == 200

    async def test_a_server_that_is_starting_says_503(self, known: State) -> None:
        streams = Streams(State())
        client = Client(streams, "hf_nonsense")

        await client.run()

        assert (client.status, client.answer_headers["retry-after"]) == (503, "2")


class TestChanges:
    async def test_each_change_names_the_one_before_as_its_base(self, known: State) -> None:
        async with opened(known) as world:
            client = await world.connect()
            await world.publish(make.flag_piece("read-only"))
            await client.until(lambda: client.names.count("changed") == 1)
            await world.publish(make.setting("retry", {"attempts": 2}, dependency="payments-api"))
            await client.until(lambda: client.names.count("changed") == 2)

        first, second = [data for name, data in client.events if name == "changed"]
        assert (first["base"], first["revision"], set(first["changed"])) == (1, 2, {"flags"})
        assert (second["base"], second["revision"]) == (2, 3)
        assert second["changed"] == {"dependencies": {"payments-api": {"retry": {"attempts": 2}}}}
        assert set(first) == {
            "base", "revision", "etag", "server_time", "published_at", "changed",
        }  # fmt: skip

    async def test_a_change_of_another_service_does_not_even_wake_it(self, known: State) -> None:
        async with opened(known) as world:
            await world.connect(service="search")
            client = await world.connect()

            for number in range(20):
                flag = make.flag_piece("read-only", service="checkout", reason=f"{number}")
                await world.publish(flag, make.override_piece("force_open"))
            await client.until(lambda: "changed" in client.names)
            wakeups = world.stream_of("search").wakeups, world.stream_of("checkout").wakeups

        assert wakeups[0] == 0
        assert wakeups[1] == 20

    async def test_a_slow_reader_gets_the_newest_state_and_no_queue(self, known: State) -> None:
        async with opened(known) as world:
            client = await world.connect()
            client.reads.clear()
            for number in range(50):
                await world.publish(make.flag_piece("read-only", reason=f"reason {number}"))
            client.reads.set()
            await client.until(lambda: "reason 49" in client.text)

        changes = [data for name, data in client.events if name == "changed"]
        assert len(changes) <= 2  # the one it was stuck in, and the newest
        assert [change["base"] for change in changes] == [
            1,
            *[change["revision"] for change in changes[:-1]],
        ]
        assert changes[-1]["revision"] == 51

    async def test_a_changed_epoch_sends_the_whole_document(self, known: State) -> None:
        async with opened(known) as world:
            client = await world.connect()
            await sync_to_async(publication.new_epoch)(
                reason="restored", actor=make.actor(world.where)
            )
            await world.refresh("epoch")
            await client.until(lambda: client.names.count("document") == 2)

        before, after = [data["meta"] for name, data in client.events if name == "document"]
        assert before["epoch"] != after["epoch"]
        assert before["revision"] == after["revision"]

    async def test_silence_is_broken_by_comments(self, known: State) -> None:
        async with opened(known, heartbeat_seconds=0.01) as world:
            client = await world.connect()

            await client.until(lambda: client.text.count(":\n\n") >= 3)

        assert client.names == ["hello", "document"]


class TestEnds:
    async def test_a_revoked_token_cuts_its_streams_and_no_others(self, known: State) -> None:
        async with opened(known) as world:
            token, text = await sync_to_async(make.token)(world.where)
            await world.refresh("tokens")
            cut, kept = await world.connect(token=text), await world.connect()

            await sync_to_async(accounts.revoke_token)(
                token.pk, version=None, reason="leaked", actor=make.actor(world.where)
            )
            await world.refresh("tokens")
            await cut.until(lambda: cut.is_complete)

            assert cut.events[-1][0] == "goodbye"
            assert cut.events[-1][1]["reason"] == "revoked"
            assert not kept.is_complete

    async def test_a_revoked_token_cuts_a_reader_that_is_stuck(self, known: State) -> None:
        async with opened(known) as world:
            token, text = await sync_to_async(make.token)(world.where)
            await world.refresh("tokens")
            stuck = await world.connect(token=text)
            stuck.reads.clear()
            await world.publish(make.flag_piece("read-only"))
            await sync_to_async(accounts.revoke_token)(
                token.pk, version=None, reason="leaked", actor=make.actor(world.where)
            )
            await world.refresh("tokens")

            async with asyncio.timeout(2.0):
                await asyncio.gather(*world.tasks)

            assert world.streams.open == []

    async def test_a_token_that_expires_ends_its_stream_by_itself(self, known: State) -> None:
        async with opened(known) as world:
            token, text = await sync_to_async(make.token)(world.where)
            await ApiToken.objects.filter(pk=token.pk).aupdate(
                expires_at=clock.now() + timedelta(seconds=0.5)
            )
            await world.refresh("tokens")
            client = await world.connect(token=text)

            await client.until(lambda: client.is_complete)

        assert client.events[-1] == ("goodbye", {"reason": "revoked", "retry_after_seconds": 60.0})

    async def test_a_reader_that_takes_nothing_is_cut(
        self, known: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "SEND_SECONDS", 0.05)
        async with opened(known, heartbeat_seconds=0.01) as world:
            stuck, reading = await world.connect(), await world.connect()
            stuck.reads.clear()
            await world.publish(make.flag_piece("read-only"))
            await asyncio.gather(world.tasks[0])

            assert len(world.streams.open) == 1
            assert not reading.is_complete

    async def test_an_old_stream_is_asked_to_come_again(self, known: State) -> None:
        async with opened(known, max_age_seconds=0.1) as world:
            client = await world.connect()

            await client.until(lambda: client.is_complete)

        assert client.events[-1][1]["reason"] == "max_age"

    async def test_draining_says_goodbye_to_each_and_spreads_their_return(
        self, known: State
    ) -> None:
        async with opened(known) as world:
            clients = [
                await world.connect(headers={"holdfast-instance": f"instance-{number}"})
                for number in range(100)
            ]

            await world.streams.drain()
            late = await world.connect()

        goodbyes = [client.events[-1] for client in clients]
        waits = sorted(data["retry_after_seconds"] for _name, data in goodbyes)
        assert {name for name, _data in goodbyes} == {"goodbye"}
        assert {data["reason"] for _name, data in goodbyes} == {"draining"}
        assert waits[-1] - waits[0] > 1.5
        assert all(client.is_complete for client in clients)
        assert late.status == 503

    async def test_a_client_that_leaves_is_forgotten(self, known: State) -> None:
        async with opened(known) as world:
            client = await world.connect()
            client.leave()
            await asyncio.gather(*world.tasks)

            assert world.streams.open == []
            assert not known._watched


class TestLimits:
    async def test_a_token_has_five_streams_per_instance(self, known: State) -> None:
        async with opened(known) as world:
            mine = {"holdfast-instance": "11111111-2222-3333-4444-555555555555"}
            clients = [await world.connect(headers=mine) for _ in range(6)]
            other = await world.connect(headers={"holdfast-instance": "another"})
            clients[0].leave()
            await world.tasks[0]
            again = await world.connect(headers=mine)

        assert [client.status for client in clients] == [200] * 5 + [429]
        assert clients[5].answer_headers["retry-after"] == "15"
        assert (other.status, again.status) == (200, 200)

    async def test_without_an_instance_the_token_counts(self, known: State) -> None:
        async with opened(known) as world:
            odd = [{"holdfast-instance": "not/an/instance" * 9}, {}]
            clients = [await world.connect(headers=odd[number % 2]) for number in range(6)]

        assert [client.status for client in clients] == [200] * 5 + [429]

    async def test_made_up_instances_do_not_get_round_it(
        self, known: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "MOST_OF_TOKEN", 8)

        async with opened(known) as world:
            clients = [
                await world.connect(headers={"holdfast-instance": f"made-up-{number}"})
                for number in range(9)
            ]
            clients[0].leave()
            await world.tasks[0]
            again = await world.connect(headers={"holdfast-instance": "made-up-10"})

        assert [client.status for client in clients] == [200] * 8 + [429]
        assert again.status == 200
        assert not world.streams._tokens
