"""The gate takes plain reports without Django, and hands on everything else as it came."""

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from apps.core.bodies import Message
from apps.telemetry.gate import PATH, ReportsGate
from apps.telemetry.ingest import Ingest
from tests import make

ENVIRONMENT_ID, SERVICE_ID = 3, 7


@dataclass
class Bearer:
    environment_id: int = ENVIRONMENT_ID
    service: str | None = "checkout"
    scopes: frozenset[str] = frozenset({"reports:write"})


@dataclass
class Django:
    """Answers 299, and keeps what it read."""

    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 299, "headers": []})


@pytest.fixture
def django() -> Django:
    return Django()


@pytest.fixture(autouse=True)
def known(own_ingest: Ingest) -> None:
    own_ingest.services[ENVIRONMENT_ID, "checkout"] = SERVICE_ID


counted: list[tuple[Any, ...]] = []
"""What was told of requests."""


async def post(django: Django, body: bytes, bearer: Bearer | None = None, **request: Any) -> int:
    """Status of the answer; the body comes in two pieces."""
    headers = {"host": "127.0.0.1:8000", "content-type": "application/json", "authorization": "x"}
    headers |= request.pop("headers", {})
    scope = {"type": "http", "method": "POST", "path": "/api/v1/reports", "query_string": b""}
    scope |= {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    pieces: list[Message] = [
        {"type": "http.request", "body": body[:10], "more_body": True},
        {"type": "http.request", "body": body[10:], "more_body": False},
    ]
    statuses: list[int] = []

    async def receive() -> Message:
        return pieces.pop(0)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    gate = ReportsGate(django, lambda authorization: bearer, lambda *told: counted.append(told))
    await gate(scope | request, receive, send)
    return statuses[0]


def encoded(**members: Any) -> bytes:
    return json.dumps(make.report(**members)).encode()


async def test_plain_report_is_taken(django: Django, own_ingest: Ingest) -> None:
    counted.clear()

    assert await post(django, encoded(), Bearer()) == 202

    assert [told[:3] for told in counted] == [("report", "POST", 202)]
    assert (len(own_ingest), django.bodies) == (1, [])


async def test_gzip_is_plain(django: Django, own_ingest: Ingest) -> None:
    body = gzip.compress(encoded())

    assert await post(django, body, Bearer(), headers={"content-encoding": "gzip"}) == 202
    assert len(own_ingest) == 1


@pytest.mark.parametrize(
    ("bearer", "request_"),
    [
        (None, {}),
        (Bearer(scopes=frozenset({"policies:read"})), {}),
        (Bearer(service="inventory"), {}),
        (Bearer(service=None), {}),
        (Bearer(environment_id=4), {}),
        (Bearer(), {"method": "GET"}),
        (Bearer(), {"query_string": b"environment=x"}),
        (Bearer(), {"headers": {"host": "evil.example"}}),
        (Bearer(), {"headers": {"content-type": "text/plain"}}),
        (Bearer(), {"headers": {"content-encoding": "br"}}),
    ],
    ids=range(10),
)
async def test_everything_else_is_djangos_as_it_came(
    django: Django, own_ingest: Ingest, bearer: Bearer | None, request_: dict[str, Any]
) -> None:
    body = encoded()

    assert await post(django, body, bearer, **request_) == 299
    assert (len(own_ingest), django.bodies) == (0, [body])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        encoded(service="inventory"),
        encoded(name="a\x00b"),
        b" " * 2_000_000,
    ],
    ids=range(5),
)
async def test_what_must_be_refused_is_refused_by_the_view(
    django: Django, own_ingest: Ingest, body: bytes
) -> None:
    assert await post(django, body, Bearer()) == 299
    assert (len(own_ingest), django.bodies) == (0, [body])


async def test_full_queue_is_refused_without_the_view(django: Django, own_ingest: Ingest) -> None:
    counted.clear()
    own_ingest.limit_bytes = 0

    assert await post(django, encoded(), Bearer()) == 429

    assert [told[:3] for told in counted] == [("report", "POST", 429)]
    assert (len(own_ingest), django.bodies) == (0, [])


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [("/api/v1/reports", True), ("/api/v1/reports/", True), ("/api/v1/reports/x", False)],
)
def test_path(path: str, is_ours: bool) -> None:
    assert bool(PATH.match(path)) is is_ours
