"""Stand-ins of all dependencies, in one process: `python -m demo.fakes FD`, on an open socket.

`GET /<name>` behaves as the dependency does now. `POST /<name>/break?seconds=60` breaks it on
purpose, `POST /<name>/mend` ends that, `GET /` says how each of them is.
"""

import asyncio
import json
import random
import socket
import sys
import time
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from demo import lifeline
from demo.plan import DEPENDENCIES, Dependency, is_out

LONGEST_BREAK = 3600.0  # seconds
SLOWER = 10


class Fake:
    """One dependency: how long it takes, and whether it fails."""

    def __init__(self, dependency: Dependency) -> None:
        self.dependency = dependency
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
        if not is_out(self.dependency, now - self._started):
            return "up"
        return "slow" if self.dependency.outage and self.dependency.outage.is_slow else "down"

    def behave(self) -> tuple[float, int]:
        """Seconds the next answer takes, and its status."""
        state = self.state
        seconds = self.dependency.seconds * self._chosen.lognormvariate(0, 0.4)
        if state == "slow":
            return seconds * SLOWER, 200
        if state in {"down", "broken"}:
            return seconds / 2, 503
        return seconds, 503 if self._chosen.random() < self.dependency.errors else 200


class Fakes:
    """An ASGI application with an address for each."""

    def __init__(self) -> None:
        self._fakes = {each.slug: Fake(each) for each in DEPENDENCIES}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        name, _slash, verb = scope["path"].strip("/").partition("/")
        if not name:
            states = {slug: fake.state for slug, fake in self._fakes.items()}
            await answer(send, 200, states)
        elif name not in self._fakes:
            await answer(send, 404, {"known": sorted(self._fakes)})
        elif scope["method"] == "POST":
            await self._command(self._fakes[name], verb, scope, send)
        else:
            seconds, status = self._fakes[name].behave()
            await asyncio.sleep(seconds)
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


async def serve(listening: socket.socket) -> None:
    config = uvicorn.Config(
        Fakes(), log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    stopping = lifeline.watch()
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await stopping.wait()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    lifeline.first_line()  # the fakes need to be told nothing
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
