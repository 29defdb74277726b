"""How many documents one process gives out a second: `python -m benchmarks.policies`.

A service asks for its document of 28 kB, over kept connections, each with one request under way:
what it has already (304), and the whole (200, plain and gzip). `--unleash DIRECTORY`, in which npm
installed `unleash-server`, asks that the same in the same run (see `benchmarks.unleash`).
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks import unleash
from benchmarks.flip import SETTLE_SECONDS, Api, token_of
from benchmarks.ingest import manage, serving

CONNECTIONS = 32
VALUE = "x" * 240  # of a flag; all of them make some 28 kB
FLAGS = 60
PATH = "/api/v1/policies/checkout"
NAMES = ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "CELERY_BROKER_URL")


class Ask(NamedTuple):
    """One kind of request, ready to be sent."""

    name: str
    port: int
    head: bytes


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as it is answered."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._missing = 0  # bytes of the answer's body
        self._buffer = b""
        self.answered = 0
        self.status = b""
        self.size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._buffer += data
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            lower = self._buffer[:end].lower()
            self.status = lower[9:12]
            place = lower.find(b"content-length:")
            self.size = int(lower[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            self._missing = self.size - (len(self._buffer) - end - 4)
            self._buffer = b""
        if self._missing <= 0:
            self.answered += 1
            self._transport.write(self._head)


async def measure(ask: Ask, seconds: float) -> tuple[float, set[bytes], int]:
    """Answers a second, their statuses, and the size of a body."""
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(CONNECTIONS):
        _transport, connection = await loop.create_connection(
            lambda: Connection(ask.head), "127.0.0.1", ask.port
        )
        connections.append(connection)
    await asyncio.sleep(seconds / 4)
    before, started = sum(each.answered for each in connections), time.perf_counter()
    await asyncio.sleep(seconds)
    count = sum(each.answered for each in connections) - before
    rate = count / (time.perf_counter() - started)
    for each in connections:
        each._transport.abort()
    return rate, {each.status for each in connections}, max(each.size for each in connections)


def request(port: int, path: str, **headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def fill(port: int, token: str) -> None:
    """Engage flags until the document is large."""
    api = Api(port, token)
    for number in range(FLAGS):
        made = {"key": f"flag-{number}", "kind": "custom", "value": VALUE}
        status, body, etag = api.post("flags", json.dumps(made).encode())
        path = f"flags/{json.loads(body)['id']}/engage"
        status, body, _etag = api.post(path, b'{"reason": "bench"}', etag)
        if status != 200:
            raise RuntimeError(f"{status} {body!r}")


def etag_of(port: int, token: str) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    return answer.headers["ETag"]


def asks(port: int, token: str) -> list[Ask]:
    bearer = f"Bearer {token}"
    known = etag_of(port, token)
    return [
        Ask("304", port, request(port, PATH, Authorization=bearer, If_None_Match=known)),
        Ask("200", port, request(port, PATH, Authorization=bearer)),
        Ask("200 gzip", port, request(port, PATH, Authorization=bearer, Accept_Encoding="gzip")),
    ]


def unleash_asks(url: str, token: str) -> list[Ask]:
    """The same of a running Unleash, whose document is about as large."""
    port = urlsplit(url).port or 80
    path = "/api/client/features"
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Authorization": token})
    answer = connection.getresponse()
    answer.read()
    known = answer.headers["ETag"]
    return [
        Ask("Unleash 304", port, request(port, path, Authorization=token, If_None_Match=known)),
        Ask("Unleash 200", port, request(port, path, Authorization=token)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--unleash", type=Path, help="where npm installed unleash-server")
    chosen = parser.parse_args()
    own = {key: value for key, value in os.environ.items() if key not in NAMES}
    with ExitStack() as stack:
        var = stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-"))
        own |= {"HOLDFAST_VAR": var, "SECRET_KEY": "bench", "SECURE_COOKIES": "0"}
        manage(own, "migrate", "--verbosity", "0")
        operator = token_of(own, "--scope", "flags:write", "--scope", "config:read")
        service = token_of(own, "--service", "checkout", "--scope", "policies:read")
        port = stack.enter_context(serving(own))
        fill(port, operator)
        time.sleep(SETTLE_SECONDS)
        every = asks(port, service)
        if chosen.unleash is not None:
            every += unleash_asks(*stack.enter_context(unleash.running(chosen.unleash)))
        rates: dict[str, list[float]] = {ask.name: [] for ask in every}
        sizes: dict[str, int] = {}
        for _ in range(chosen.rounds):
            for ask in every:
                rate, statuses, sizes[ask.name] = asyncio.run(measure(ask, chosen.seconds))
                if statuses != {ask.name.split()[-1 if "Unleash" in ask.name else 0].encode()}:
                    raise RuntimeError(f"{ask.name}: {statuses}")
                rates[ask.name].append(rate)
    for name, found in rates.items():
        rate, size = statistics.median(found), sizes[name]
        print(f"{name:12} {rate:8.0f} /s   body {size:6} bytes   n={len(found)}")
    for kind in ("304", "200"):
        if theirs := rates.get(f"Unleash {kind}"):
            ratios = [ours / other for ours, other in zip(rates[kind], theirs, strict=True)]
            print(f"{kind}: {statistics.median(ratios):.1f} times Unleash")


if __name__ == "__main__":
    main()
