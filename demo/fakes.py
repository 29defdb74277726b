"""Stand-ins of all dependencies, in one process: `python -m demo.fakes FD`, on an open socket.

`GET /<name>` behaves as the dependency does now. `GET /<name>/health` fails only while that fails
for good; `GET /<name>/taken` says how often each idempotency key succeeded; `GET /` how each of
them is. `POST /<name>/break?seconds=60` breaks it on purpose, `POST /<name>/mend` ends that.
"""

import asyncio
import json
import random
import socket
import sys
import time
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from demo import lifeline
from demo.plan import CALM, DEPENDENCIES, Dependency, is_out

LONGEST_BREAK = 3600.0  # seconds
MOST_TAKEN = 10_000
SLOWER = 10
DOWN = frozenset({"down", "broken"})


class Fake:
    """One dependency: how long it takes, whether it fails, and what it was sent and took.

    A calm one fails on purpose only.
    """

    def __init__(self, dependency: Dependency, *, is_calm: bool) -> None:
        self.dependency = dependency
        self.taken: Counter[str] = Counter()  # idempotency keys of requests that succeeded
        self._is_calm = is_calm
        self._started = time.monotonic()
        self._broken_until = 0.0
        self._chosen = random.Random(dependency.slug)

    def break_for(self, seconds: float) -> None:
        self._broken_until = time.monotonic() + seconds

    @property
    def state(self) -> str:
        """up, slow, down (by itself) or broken (on purpose)."""
        now = time.monotonic()
        if now < self._broken_until:
            return "broken"
        if self._is_calm or not is_out(self.dependency, now - self._started):
            return "up"
        return "slow" if self.dependency.outage and self.dependency.outage.is_slow else "down"

    def behave(self) -> tuple[float, int]:
        """Seconds the next answer takes, and its status."""
        state = self.state
        seconds = self.dependency.seconds * self._chosen.lognormvariate(0, 0.4)
        if state == "slow":
            return seconds * SLOWER, 200
        if state in DOWN:
            return seconds / 2, 503
        share = 0.0 if self._is_calm else self.dependency.errors
        return seconds, 503 if self._chosen.random() < share else 200

    def take(self, scope: dict[str, Any]) -> None:
        """Remember the idempotency key of a request that succeeded, of the newest that had one."""
        if key := dict(scope["headers"]).get(b"idempotency-key"):
            self.taken[key.decode("latin-1")] += 1
            while len(self.taken) > MOST_TAKEN:
                del self.taken[next(iter(self.taken))]


class Fakes:
    """An ASGI application with an address for each."""

    def __init__(self, *, is_calm: bool) -> None:
        self._fakes = {each.slug: Fake(each, is_calm=is_calm) for each in DEPENDENCIES}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        name, _slash, verb = scope["path"].strip("/").partition("/")
        if not name:
            states = {slug: fake.state for slug, fake in self._fakes.items()}
            await answer(send, 200, states)
        elif name not in self._fakes:
            await answer(send, 404, {"known": sorted(self._fakes)})
        elif scope["method"] == "POST":
            await self._command(self._fakes[name], verb, scope, send)
        elif verb == "taken":
            await answer(send, 200, self._fakes[name].taken)
        elif verb == "health":
            state = self._fakes[name].state
            await answer(send, 503 if state in DOWN else 200, {"state": state})
        else:
            seconds, status = self._fakes[name].behave()
            await asyncio.sleep(seconds)
            if status == 200:
                self._fakes[name].take(scope)
            await answer(send, status, {"from": name, "at": time.time()})

    async def _command(self, fake: Fake, verb: str, scope: dict[str, Any], send: Any) -> None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("seconds", ["60"])[0]
        if verb == "break" and given.isdigit() and 0 < int(given) <= LONGEST_BREAK:
            fake.break_for(float(given))
        elif verb == "mend":
            fake.break_for(0)
        else:
            await answer(send, 400, {"detail": f"break?seconds=1…{LONGEST_BREAK:.0f}, or mend"})
            return
        await answer(send, 200, {fake.dependency.slug: fake.state})


async def answer(send: Any, status: int, body: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def serve(listening: socket.socket, *, is_calm: bool) -> None:
    config = uvicorn.Config(
        Fakes(is_calm=is_calm),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    stopping = lifeline.watch()
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await stopping.wait()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    told = lifeline.first_line().strip()
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1])), is_calm=told == CALM))
