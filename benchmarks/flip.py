"""How long from an operator's click to the service's obedience: `python -m benchmarks.flip`.

A flag is flipped through the API, and two other processes say when they had it: one reads the
stream's socket, one is a service with the SDK, for which it counts when the policy is in force.
The clock starts with the revision's own time stamp, which is taken inside the transaction: what is
left of it, and the commit, are part of the figure. Embedded and distributed (through one web
process to another), idle and while 500 reports a second come in, of five dependencies each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple

from benchmarks.ingest import ROOT, manage, serving
from deploy.local_servers import PostgreSQL, Redis

KINDS = {"stream": "bytes received", "sdk": "in force in the SDK"}
REPORTERS = 10
PAUSE_SECONDS = 0.03  # between flips, so that each is a change of its own
SETTLE_SECONDS = 1.0
STAMPS = (
    "import json; from apps.publication.models import Revision; "
    "print(json.dumps({r.number: r.at.timestamp() for r in Revision.objects.all()}))"
)


class Server(NamedTuple):
    """Where flips go in, where clients are, and what they show."""

    front: int  # port
    clients: int  # port; the same, or another web process's
    operator: str  # token
    service: str  # token, bound to the service


class Follower:
    """A follower process and what it has said."""

    def __init__(self, kind: str, server: Server) -> None:
        url = f"http://127.0.0.1:{server.clients}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.follower", kind, url, server.service, "checkout"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.had: dict[int, float] = {}  # revision: when
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Follower":
        self._reader.start()
        if not self._ready.wait(30):
            raise RuntimeError("a follower did not get its policy")
        return self

    def __exit__(self, *details: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                revision, at = line.split()
                self.had.setdefault(int(revision), float(at))
                self._ready.set()


class Api:
    """One kept connection to the API."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, body: bytes, etag: str = "") -> tuple[int, bytes, str]:
        return self._ask("POST", path, body, etag)

    def send(self, method: str, path: str, body: Any, etag: str = "") -> tuple[int, bytes, str]:
        return self._ask(method, path, json.dumps(body).encode() if body else b"", etag)

    def _ask(self, method: str, path: str, body: bytes, etag: str) -> tuple[int, bytes, str]:
        headers = self._headers | ({"If-Match": etag} if etag else {})
        self._connection.request(method, f"/api/v1/{path}", body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("ETag", "")


def flip(server: Server, key: str, times: int) -> None:
    """Switch a flag of the service on and off, `times` in all."""
    api = Api(server.front, server.operator)
    made = {"key": key, "kind": "custom", "service": "checkout"}
    status, body, etag = api.post("flags", json.dumps(made).encode())
    flag = json.loads(body)["id"]
    for number in range(times):
        action = "end" if number % 2 else "engage"
        status, body, etag = api.post(f"flags/{flag}/{action}", b'{"reason": "bench"}', etag)
        if status != 200:
            raise RuntimeError(f"{action}: {status} {body!r}")
        time.sleep(PAUSE_SECONDS)


@contextmanager
def reporting(ports: list[int], token: str, per_second: int) -> Iterator[list[int]]:
    """Reports come in at this rate meanwhile; yields what they were answered with."""
    over = threading.Event()
    statuses: list[int] = []
    with ThreadPoolExecutor(REPORTERS) as pool:
        rate = per_second / REPORTERS
        for number in range(REPORTERS if per_second else 0):
            pool.submit(_report, ports[number % len(ports)], token, rate, over, statuses)
        try:
            yield statuses
        finally:
            over.set()


def _report(port: int, token: str, rate: float, over: threading.Event, statuses: list[int]) -> None:
    api = Api(port, token)
    instances = [str(uuid.uuid4()) for _ in range(30)]
    started = time.monotonic()
    for number in range(10**9):
        if over.wait(max(0.0, started + number / rate - time.monotonic())):
            return
        body = report(instances[number % 30], 1 + number // 30)
        statuses.append(api.post("reports", body)[0])


def environments() -> Iterator[tuple[str, int, dict[str, str]]]:
    """Name, number of web processes and environment of each mode."""
    names = ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "CELERY_BROKER_URL")
    own = {key: value for key, value in os.environ.items() if key not in names}
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as var:
        own |= {"HOLDFAST_VAR": var, "SECRET_KEY": "bench", "SECURE_COOKIES": "0"}
        yield "embedded", 1, own
        with PostgreSQL() as postgresql, Redis() as redis:
            urls = {"DATABASE_URL": postgresql.url, "REDIS_URL": redis.url}
            yield "distributed", 2, own | urls


def report(instance: str, sequence: int) -> bytes:
    """One of a service with five dependencies."""
    calls = {
        "calls": 10,
        "successes": 10,
        "latency": {"60": 5, "70": 4, "90": 1},
        "breaker": {"state": "closed", "since": None, "generation": 0, "override": None},
    }
    dependencies = {f"dependency-{number}": calls for number in range(5)}
    body = {"instance": instance, "sequence": sequence, "dependencies": dependencies}
    return json.dumps(body).encode()


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def measure(
    name: str, environment: dict[str, str], server: Server, *, times: int, load: int
) -> None:
    """One line of the table for each kind of follower."""
    with ExitStack() as stack:
        followers = {kind: stack.enter_context(Follower(kind, server)) for kind in KINDS}
        ports = sorted({server.front, server.clients})
        statuses = stack.enter_context(reporting(ports, server.service, load))
        time.sleep(SETTLE_SECONDS)
        before, started = len(statuses), time.monotonic()
        flip(server, f"flip-{load}", times)
        rate = statuses[before:].count(202) / (time.monotonic() - started)
        time.sleep(SETTLE_SECONDS)
    stamps = manage(environment, "shell", "--verbosity", "0", "--command", STAMPS)
    at = {int(number): when for number, when in json.loads(stamps).items()}
    first = max(at) - times + 1
    for kind, meaning in KINDS.items():
        flips = {number: when for number, when in at.items() if number >= first}
        delays = delays_of(flips, followers[kind].had)
        show(name, load, meaning, delays, times, rate)


def delays_of(flips: dict[int, float], had: dict[int, float]) -> list[float]:
    """Milliseconds from each flip until its revision, or one that replaced it, was there."""
    delays = []
    for number, when in flips.items():
        if arrivals := [at for revision, at in had.items() if revision >= number]:
            delays.append(1000 * (min(arrivals) - when))
    return delays


def token_of(environment: dict[str, str], *arguments: str) -> str:
    return manage(environment, "createtoken", "--environment", "bench", *arguments)


def show(name: str, load: int, meaning: str, delays: list[float], times: int, rate: float) -> None:
    loaded = f"{rate:.0f} of {load} reports/s" if load else "idle"
    print(
        f"{name:12} {loaded:22} {meaning:20} n={len(delays)} of {times}  "
        f"p50 {quantile(delays, 0.5):6.1f} ms  p99 {quantile(delays, 0.99):6.1f} ms  "
        f"max {max(delays):6.1f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--reports", type=int, default=500, help="a second, under load")
    chosen = parser.parse_args()
    print("Commit of a flip → a service has it")
    for name, webs, environment in environments():
        manage(environment, "migrate", "--verbosity", "0")
        operator = token_of(environment, "--scope", "flags:write", "--scope", "config:read")
        service = token_of(
            environment, "--service", "checkout", "--scope", "policies:read",
            "--scope", "reports:write",
        )  # fmt: skip
        with ExitStack() as stack:
            ports = [stack.enter_context(serving(environment)) for _ in range(webs)]
            server = Server(ports[0], ports[-1], operator, service)
            for load in (0, chosen.reports):
                measure(name, environment, server, times=chosen.times, load=load)


if __name__ == "__main__":
    main()
