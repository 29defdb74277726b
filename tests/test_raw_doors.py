"""What stands in front of Django, streams and reports, given what no client should send."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from apps.delivery.state import State
from apps.delivery.streams import PATH, Streams
from apps.telemetry import ingest
from apps.telemetry.gate import ReportsGate
from apps.telemetry.ingest import Ingest
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 5.0
STREAM = "/api/v1/policies/checkout/stream"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def is_problem(self) -> bool:
        is_named_so = self.headers[b"content-type"] == b"application/problem+json"
        return is_named_so and bool(json.loads(self.body)["status"] == self.status)


async def ask(application: Any, *, body: bytes = b"", **scope: Any) -> Answer:
    """The first of an answer; the client leaves as soon as it has sent its request."""
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async with asyncio.timeout(SECONDS):
        await application({"type": "http", "query_string": b"", **scope}, receive, send)
    parts = [message.get("body", b"") for message in sent]
    return Answer(sent[0]["status"], dict(sent[0]["headers"]), b"".join(parts))


@pytest.fixture
def token() -> str:
    environment = make.environment()
    make.service(environment, "checkout")
    return make.token(environment)[1]


def headers(token: str, **more: bytes) -> list[tuple[bytes, bytes]]:
    """Those of a sound request, and others instead or besides."""
    own = {"host": b"localhost", "authorization": f"Bearer {token}".encode()} | more
    return [(name.replace("_", "-").encode(), value) for name, value in own.items()]


async def known_state() -> State:
    """The state of a process that has read everything once."""
    known = State()
    await sync_to_async(known.refresh)()
    await sync_to_async(connections.close_all)()  # of the thread that did the database's work
    return known


async def stream(token: str, path: str = STREAM, **scope: Any) -> Answer:
    known = await known_state()
    sound = {"method": "GET", "path": path, "headers": headers(token)}
    return await ask(Streams(known), **sound | scope)


class TestStreams:
    async def test_a_sound_request_is_served(self, token: str) -> None:
        answer = await stream(token)

        assert answer.status == 200
        assert answer.body.startswith(b"retry: 2000")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "x" * 9_999])
    async def test_another_method_is_405(self, token: str, method: str) -> None:
        answer = await stream(token, method=method)

        assert (answer.status, answer.headers[b"allow"]) == (405, b"GET")
        assert answer.is_problem

    @pytest.mark.parametrize(
        "given",
        [b"", b"Bearer", b"Bearer \xff\xfe", b"Bearer hf_" + b"a" * 99_999, b"Basic eDp4", b"\0"],
        ids=range(6),
    )
    async def test_without_a_good_token_it_is_401(self, token: str, given: bytes) -> None:
        answer = await stream(token, headers=headers(token, authorization=given))

        assert answer.status == 401
        assert answer.is_problem
        assert answer.headers[b"www-authenticate"].startswith(b"Bearer")

    @pytest.mark.parametrize("host", [b"", b"evil.example", b"[", b"\xff", b"a" * 99_999])
    async def test_a_host_that_is_not_ours_is_400(self, token: str, host: bytes) -> None:
        answer = await stream(token, headers=headers(token, host=host))

        assert answer.status == 400
        assert answer.is_problem

    @pytest.mark.parametrize(
        "name", ["\0", "check\nout", "checkout\n", "A", "a" * 81, "a" * 99_999, "..", "é", "\ud800"]
    )
    async def test_what_cannot_be_a_service_is_404(self, token: str, name: str) -> None:
        answer = await stream(token, path=f"/api/v1/policies/{name}/stream")

        assert answer.status == 404
        assert answer.is_problem

    @pytest.mark.parametrize("query", [b"environment=%ff", b"environment=x&" * 999])
    async def test_another_environment_is_404(self, token: str, query: bytes) -> None:
        answer = await stream(token, query_string=query)

        assert answer.status == 404
        assert answer.is_problem

    @pytest.mark.parametrize("query", [b"", b"\xff&&=;%", b"a=1&" * 99_999], ids=range(3))
    async def test_other_parameters_change_nothing(self, token: str, query: bytes) -> None:
        answer = await stream(token, query_string=query)

        assert answer.status == 200

    async def test_odd_headers_change_nothing(self, token: str) -> None:
        odd = headers(
            token,
            last_event_id=b"\xff" * 9_999,
            holdfast_instance=b"a b\0" * 999,
            accept=b";;;",
            range=b"bytes=9-1",
        )

        answer = await stream(token, headers=odd)

        assert answer.status == 200

    @pytest.mark.parametrize("path", ["", "//", "/api/v1/policies//stream", f"{STREAM}//", "/\0"])
    def test_other_paths_are_not_streams(self, path: str) -> None:
        assert PATH.match(path) is None


class TestReports:
    @pytest.mark.parametrize(
        "given",
        [
            {"headers": [(b"host", b"localhost"), (b"authorization", b"Bearer \xff")]},
            {"headers": []},
            {"headers": [(b"\xff", b"\xff")] * 99},
            {"method": "INVENTED"},
            {"query_string": b"\xff=%ff"},
            {"body": b""},
            {"body": b"\xff\0"},
            {"body": b"[" * 500_000},
            {"body": b"9" * 1_000_000},
            {"body": b" " * 2 * 1024 * 1024},
            {"body": b'{"instance": "\\u0000"}'},
        ],
        ids=range(11),
    )
    async def test_what_is_not_plain_is_for_django(
        self, token: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ingest, "current", Ingest())
        known = await known_state()
        passed: list[bytes] = []

        async def django(scope: Any, receive: Any, send: Any) -> None:
            passed.append((await receive())["body"])
            await send({"type": "http.response.start", "status": 299, "headers": []})

        plain = [*headers(token), (b"content-type", b"application/json")]
        sound = {"method": "POST", "path": "/api/v1/reports", "headers": plain, "body": b"{}"}
        answer = await ask(
            ReportsGate(django, known.bearer_of, lambda *told: None), **sound | given
        )

        assert answer.status == 299
        assert passed == [(sound | given)["body"]]
        assert len(ingest.current) == 0
