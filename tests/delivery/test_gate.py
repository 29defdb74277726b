"""The gate answers for documents as the view does, and hands on what is not its own."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.test import Client

from apps.accounts.models import ApiToken
from apps.core import clock
from apps.core.bodies import Message
from apps.delivery.answers import STALE_AFTER
from apps.delivery.gate import AccessLog, PolicyGate
from apps.delivery.state import State
from tests import make
from tests.delivery.test_answers import NOW, TABLE, World, world

__all__ = ["world"]  # the fixture

pytestmark = pytest.mark.django_db

# Of every answer, as both doors must give them. REST framework adds an Allow to each of its own.
HEADERS = (
    "Cache-Control",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Date",
    "ETag",
    "Holdfast-Jitter",
    "Holdfast-Poll-Seconds",
    "Holdfast-Report-Seconds",
    "Policy-Stale",
    "Retry-After",
    "Vary",
    "WWW-Authenticate",
)
MORE: list[tuple[str, str, dict[str, str], int, dict[str, str]]] = [
    ("bound", "checkout", {"If-None-Match": "ETAG", "Accept-Encoding": "gzip"}, 304, {}),
    ("bound", "checkout", {"If-None-Match": '"a",'}, 200, {}),
    ("bound", "ch%C3%A9ckout", {}, 404, {}),
    ("free", "checkout?environment=production", {}, 200, {}),
    ("free", "checkout?environment=staging", {}, 404, {}),
    ("free", "checkout?wait=0", {}, 200, {}),
    ("free", "checkout?wait=soon", {}, 400, {}),
    ("free", "checkout?wait=61", {}, 400, {}),
    ("free", "checkout?wait=-1", {}, 400, {}),
    ("free", "checkout?wait=1e9", {}, 400, {}),
]


@dataclass
class Django:
    """Answers 299, and knows what it was asked."""

    asked: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(f"{scope['method']} {scope['path']}")
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@dataclass
class Seen:
    status: int
    headers: dict[str, str]
    body: bytes


async def ask(
    gate: PolicyGate,
    path: str,
    headers: Mapping[str, str],
    *,
    method: str = "GET",
    gone: asyncio.Event | None = None,
) -> Seen:
    """What the gate sends to a client, which leaves once `gone` is set."""
    sent: list[Message] = []
    path, _mark, query = path.partition("?")
    headers = {"host": "127.0.0.1:8000", **headers}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [
            (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()
        ],
    }

    async def receive() -> Message:
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await gate(scope, receive, send)
    found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Seen(sent[0]["status"], found, b"".join(each.get("body", b"") for each in sent[1:]))


@pytest.fixture
def django() -> Django:
    return Django()


@pytest.fixture
def counted() -> list[tuple[str, str, int]]:
    return []


@pytest.fixture
def gate(world: World, django: Django, counted: list[tuple[str, str, int]]) -> PolicyGate:
    def observe(view: str, method: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        counted.append((view, method, status))

    return PolicyGate(django, world.known, observe)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("token", "service", "headers", "status", "expected"), TABLE + MORE)
def test_both_doors_give_the_same_answer(
    world: World,
    gate: PolicyGate,
    client: Client,
    method: str,
    token: str,
    service: str,
    headers: dict[str, str],
    status: int,
    expected: dict[str, str],
) -> None:
    sent = {name: value.replace("ETAG", world.etag) for name, value in headers.items()}
    sent["Authorization"] = f"Bearer {world.tokens[token]}"
    path = f"/api/v1/policies/{service}"

    with clock.use(lambda: NOW):
        by_view = client.generic(method, path.replace("\0", "%00"), headers=sent)
        unquoted = path.replace("%C3%A9", "é")
        by_gate = asyncio.run(ask(gate, unquoted, sent, method=method))

    assert by_gate.status == by_view.status_code == status
    assert by_gate.body == by_view.content
    for name in HEADERS:
        seen = by_view.headers.get(name, "").removesuffix(", Accept-Language")
        if name != "Vary" or status < 400:  # on errors Django's middlewares say what varies
            assert by_gate.headers.get(name.lower(), "") == seen, name


def test_without_a_query_and_without_the_view(
    world: World, gate: PolicyGate, django: Django, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        seen = asyncio.run(ask(gate, "/api/v1/policies/checkout", _bearer(world, "bound")))

    assert (seen.status, django.asked) == (200, [])


@pytest.mark.parametrize(
    ("method", "host"), [("POST", "127.0.0.1"), ("DELETE", "127.0.0.1"), ("GET", "evil.example")]
)
def test_other_methods_and_hosts_are_djangos(
    world: World, gate: PolicyGate, django: Django, method: str, host: str
) -> None:
    seen = asyncio.run(
        ask(
            gate,
            "/api/v1/policies/checkout",
            {**_bearer(world, "bound"), "Host": host},
            method=method,
        )
    )

    assert (seen.status, django.asked) == (299, [f"{method} /api/v1/policies/checkout"])


def test_requests_are_counted_as_djangos_are(
    world: World, gate: PolicyGate, counted: list[tuple[str, str, int]]
) -> None:
    for token, method in (("bound", "GET"), ("bound", "HEAD"), ("malformed", "GET")):
        asyncio.run(ask(gate, "/api/v1/policies/checkout", _bearer(world, token), method=method))

    assert counted == [("policy", "GET", 200), ("policy", "HEAD", 200), ("policy", "GET", 401)]


def test_a_stale_policy_says_so_at_the_gate_too(world: World, gate: PolicyGate) -> None:
    object.__setattr__(world.snapshot, "reached_at", time.monotonic() - STALE_AFTER - 2)

    seen = asyncio.run(ask(gate, "/api/v1/policies/checkout", _bearer(world, "bound")))

    assert (seen.status, seen.headers["policy-stale"]) == (200, "7")


def test_a_server_that_is_starting_says_503_and_never_401(django: Django) -> None:
    gate = PolicyGate(django, State(), lambda *_: None)

    seen = asyncio.run(
        ask(gate, "/api/v1/policies/checkout", {"Authorization": "Bearer hf_nonsense"})
    )

    assert (seen.status, seen.headers["retry-after"]) == (503, "2")


class TestWaiting:
    """`?wait=`: the answer comes when there is something new."""

    def wait(
        self, world: World, gate: PolicyGate, meanwhile: Callable[[], object], seconds: int = 30
    ) -> Seen:
        """What a client gets that has the document and waits, while something happens."""

        async def run() -> Seen:
            gate.start()
            gone = asyncio.Event()
            asking = asyncio.create_task(
                ask(
                    gate,
                    f"/api/v1/policies/checkout?wait={seconds}",
                    {**_bearer(world, "bound"), "If-None-Match": world.etag},
                    gone=gone,
                )
            )
            await gate_is_held(gate)
            if (done := await sync_to_async(meanwhile)()) is not None:
                assert done is LEFT
                gone.set()
            seen = await asyncio.wait_for(asking, 10)
            gate.stop()
            return seen

        return async_to_sync(run)()

    def test_is_over_when_the_document_changes(self, world: World, gate: PolicyGate) -> None:
        before = world.etag

        def publish() -> None:
            make.publish(world.environment, make.flag_piece("read-only", value=2))
            world.known.hear("published")
            world.known.refresh()

        seen = self.wait(world, gate, publish)

        assert (seen.status, seen.headers["etag"]) == (200, world.etag)
        assert world.etag != before

    def test_ends_with_304_when_nothing_does(self, world: World, gate: PolicyGate) -> None:
        assert self.wait(world, gate, lambda: None, seconds=1).status == 304

    def test_ends_when_the_token_is_revoked(self, world: World, gate: PolicyGate) -> None:
        def revoke() -> None:
            ApiToken.objects.update(revoked_at=clock.now() - timedelta(seconds=1))
            world.known.hear("tokens")
            world.known.refresh()

        assert self.wait(world, gate, revoke).status == 401

    def test_ends_when_the_server_is_about_to_stop(self, world: World, gate: PolicyGate) -> None:
        def drain() -> None:
            world.known.is_draining = True
            gate.drain()

        assert self.wait(world, gate, drain).status == 304

    def test_a_client_that_leaves_is_not_waited_for(self, world: World, gate: PolicyGate) -> None:
        assert self.wait(world, gate, lambda: LEFT).status == 304
        assert not gate._waiting

    def test_news_of_another_service_wakes_nobody(self, world: World, gate: PolicyGate) -> None:
        def publish() -> None:
            other = make.service(world.environment, "search")
            make.publish(world.environment, make.use(other.slug, "index"))
            world.known.hear("published")
            world.known.refresh()

        assert self.wait(world, gate, publish, seconds=1).status == 304


LEFT = object()


async def gate_is_held(gate: PolicyGate) -> None:
    async with asyncio.timeout(10):
        while not gate._waiting:  # noqa: ASYNC110 - nobody else is told
            await asyncio.sleep(0)


class TestAccessLog:
    def test_one_line_for_many_requests_of_a_kind(self, caplog: pytest.LogCaptureFixture) -> None:
        access = AccessLog()
        for _ in range(3):
            access.add(304, "checkout", "abc")
        access.add(401, "", "")

        with caplog.at_level("INFO"):
            access.write()

        lines = [record.msg for record in caplog.records]
        assert [(line["status"], line["count"]) for line in lines] == [(304, 3), (401, 1)]  # type: ignore[index]  # structlog's

    def test_a_flood_of_made_up_tokens_stays_small(self) -> None:
        access = AccessLog()
        for number in range(2_000):
            access.add(401, "", f"token{number}")

        assert len(access._kinds) <= 1_001
        assert sum(access._kinds.values()) == 2_000


def _bearer(world: World, token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {world.tokens[token]}"}
