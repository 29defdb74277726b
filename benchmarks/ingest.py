"""How many reports a second one server takes, over HTTP, and whether it counted them all.

`python -m benchmarks.ingest`: SQLite, then PostgreSQL and Redis; each report tells of 20
dependencies. Each connection speaks for many instances, in turn. Beside them one connection asks
for its policy a hundred times a second.
At the end the server is told to stop, and its database is asked what it counted.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import cast

import uvloop

from deploy.local_servers import PostgreSQL, Redis

ROOT = Path(__file__).resolve().parent.parent
DEPENDENCIES = 20
INSTANCES = 30  # of each connection
REFUSED_SECONDS = 0.1  # after a 429, before the connection goes on; less than the SDK waits
COUNT = (
    "from apps.telemetry.models import Window; from django.db.models import Sum; "
    "print(Window.objects.filter(span=10).aggregate(n=Sum('calls'))['n'] or 0)"
)


@dataclass
class Result:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of each answer
    policies: list[float] = field(default_factory=list)  # the same of policies


def quantile(seconds: list[float], share: float) -> float:
    """Milliseconds."""
    ordered = sorted(seconds)
    return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def manage(environment: dict[str, str], *arguments: str) -> str:
    """The last line that a management command prints."""
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return (done.stdout.strip().splitlines() or [""])[-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[int]:
    """A server on a port of its own, stopped at the end as an operator would stop it."""
    port = free_port()
    command = [sys.executable, "manage.py", "serve", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command, cwd=ROOT, env=environment | {"HOLDFAST_WEB": "1"}, stdout=log, stderr=log
        )
        try:
            _wait_for(port, server)
            yield port
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError):
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/api/v1/health/ready")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError("the server did not start")


def report(instance: str, sequence: int) -> bytes:
    calls = {
        "calls": 10,
        "successes": 9,
        "failures": 1,
        "latency": {"60": 5, "70": 4, "90": 1},
        "breaker": {"state": "closed", "since": None, "generation": 0, "override": None},
        "in_flight": 1,
    }
    dependencies = {f"dependency-{number}": calls for number in range(DEPENDENCIES)}
    body = {"instance": instance, "sequence": sequence, "dependencies": dependencies}
    return json.dumps(body, separators=(",", ":")).encode()


class Sender(asyncio.Protocol):
    """One connection: instances in turn report, each as soon as the one before is answered.

    It shares two cores with the server, so it does as little as it can.
    """

    def __init__(self, head: bytes, deadline: float, result: Result) -> None:
        self._head = head
        self._deadline = deadline
        self._result = result
        names = [str(uuid.uuid4()) for _ in range(INSTANCES)]
        self._bodies = [report(name, 0).split(b'"sequence":0') for name in names]
        self._number = 0
        self._answer = b""
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit it
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        is_whole = len(body) >= int(length) if length else body.endswith(b"0\r\n\r\n")
        if not found or not is_whole:
            return
        status, self._answer = int(head[9:12]), b""
        self._result.statuses[status] += 1
        self._result.seconds.append(time.monotonic() - self._started)
        if status == 429:
            asyncio.get_running_loop().call_later(REFUSED_SECONDS, self._send)
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(error or ConnectionError("the server closed it"))

    def _send(self) -> None:
        self._started = time.monotonic()
        if self._started >= self._deadline:
            self.over.set_result(None)
            self._transport.close()
            return
        before, after = self._bodies[self._number % INSTANCES]
        body = b'%s"sequence":%d%s' % (before, 1 + self._number // INSTANCES, after)
        self._number += 1
        self._transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (self._head, len(body), body))


async def send(port: int, token: str, deadline: float, result: Result) -> None:
    """Report over one connection until `deadline`."""
    head = (
        f"POST /api/v1/reports HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    _transport, sender = await loop.create_connection(
        lambda: Sender(head, deadline, result), "127.0.0.1", port
    )
    await sender.over


async def poll(port: int, token: str, deadline: float, result: Result) -> None:
    """Ask for the policy, until `deadline`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"GET /api/v1/policies/checkout HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    )
    while time.monotonic() < deadline:
        started = time.monotonic()
        writer.write(head.encode())
        if await _status(reader) == 200:  # 503 while it starts
            result.policies.append(time.monotonic() - started)
        await asyncio.sleep(0.01)
    writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    """Status of the next answer, whose body is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if "transfer-encoding: chunked" in head:
        await reader.readuntil(b"0\r\n\r\n")
    else:
        await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
    return int(head.split()[1])


async def flood(port: int, token: str, *, connections: int, seconds: float) -> Result:
    result = Result()
    deadline = time.monotonic() + seconds
    senders = (send(port, token, deadline, result) for _ in range(connections))
    await asyncio.gather(poll(port, token, deadline, result), *senders)
    return result


def measure(name: str, environment: dict[str, str], *, connections: int, seconds: float) -> None:
    manage(environment, "migrate", "--verbosity", "0")
    token = manage(
        environment, "createtoken", "--environment", "bench", "--service", "checkout",
        "--scope", "reports:write", "--scope", "policies:read",
    )  # fmt: skip
    with serving(environment) as port:
        result = uvloop.run(flood(port, token, connections=connections, seconds=seconds))
    accepted = result.statuses[202]
    counted = int(manage(environment, "shell", "--verbosity", "0", "--command", COUNT))
    print(
        f"{name:10} {accepted / seconds:6.0f} reports/s   "
        f"{of(result.seconds)}   policies meanwhile {of(result.policies)}   "
        f"counted {counted} of {accepted * DEPENDENCIES * 10}   answers {dict(result.statuses)}"
    )


def of(seconds: list[float]) -> str:
    return f"p50 {quantile(seconds, 0.5):.1f} ms p99 {quantile(seconds, 0.99):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=15.0)
    chosen = parser.parse_args()
    with ExitStack() as stack:
        var = stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-"))
        names = ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "CELERY_BROKER_URL")
        own = {key: value for key, value in os.environ.items() if key not in names}
        own |= {"HOLDFAST_VAR": var, "SECRET_KEY": "bench", "SECURE_COOKIES": "0"}
        measure("SQLite", own, **vars(chosen))
        servers = {
            "DATABASE_URL": stack.enter_context(PostgreSQL()).url,
            "REDIS_URL": stack.enter_context(Redis()).url,
        }
        measure("PostgreSQL", own | servers, **vars(chosen))


if __name__ == "__main__":
    main()
