"""One process of one service: `python -m demo.service NAME NUMBER`.

It learns on its standard input where Holdfast and the fakes are. Its customers live in the same
process: requests come at random moments, each calls some dependencies through the SDK, and how it
ended is counted as the service's own traffic.
"""

import asyncio
import json
import random
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import httpx

from demo import lifeline
from demo.plan import LETTERS, SERVICES, Service
from holdfast import Holdfast, Letter

MOST_OPEN = 40  # requests at once; more are turned away
WRITES = 0.3  # share of requests that change something


class Running:
    """A process that answers requests until it is told to stop."""

    def __init__(self, service: Service, hf: Holdfast, http: httpx.AsyncClient, seed: str) -> None:
        self._service = service
        self._hf = hf
        self._http = http
        self._life = f"{seed} {uuid.uuid4().hex[:8]}"
        self._chosen = random.Random(seed)
        self._numbers = count(1)
        self._open: set[asyncio.Task[None]] = set()
        self._calls = {name: self._guarded(name) for name, _share in service.calls}

    async def run(self, stopping: asyncio.Event) -> None:
        """Requests at random moments, as many a second as the plan says."""
        while not stopping.is_set():
            await asyncio.sleep(self._chosen.expovariate(self._service.requests_per_second))
            if len(self._open) >= MOST_OPEN:
                self._hf.count_request(503, 0.0)
                continue
            task = asyncio.create_task(self._request())
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _request(self) -> None:
        started = time.perf_counter()
        status = await self._answer()
        self._hf.count_request(status, time.perf_counter() - started)

    async def _answer(self) -> int:
        """Status of the answer to a customer."""
        if self._chosen.random() < WRITES and self._hf.read_only:
            return 503
        for dependency, share in self._service.calls:
            if self._chosen.random() < share and not await self._call(dependency):
                return 502
        return 200

    async def _call(self, dependency: str) -> bool:
        try:
            await self._calls[dependency](next(self._numbers))
        except Exception:  # noqa: BLE001 – whatever it was, the customer gets a 502
            return False
        return True

    def _guarded(self, dependency: str) -> Callable[[int], Awaitable[Any]]:
        """The call of a dependency, and what is done when a letter of it comes back."""

        async def ask(number: int) -> Any:
            headers = {"Idempotency-Key": self._key(number)}
            response = await self._http.get(f"/{dependency}", headers=headers)
            response.raise_for_status()
            return response.json()

        if (handler := LETTERS.get(dependency)) is None:
            return self._hf.guard(dependency)(ask)
        self._hf.redrives(handler)(
            lambda letter: self._hf.call(dependency, self._again, dependency, letter)
        )
        return self._hf.guard(
            dependency,
            dead_letter=handler,
            serialize=lambda number: {"request": self._key(number)},
            idempotency_key=self._key,
        )(ask)

    def _key(self, number: int) -> str:
        """Names one call for good, however often it is tried."""
        return f"{self._life} {number}"

    def _again(self, dependency: str, letter: Letter) -> None:
        """On the SDK's thread, whose event loop is another one than the service's."""
        headers = {"Idempotency-Key": letter.idempotency_key}
        url = self._http.base_url.join(f"/{dependency}")
        httpx.get(url, headers=headers, timeout=20).raise_for_status()


async def main(name: str, number: str, told: dict[str, Any]) -> None:
    (service,) = (each for each in SERVICES if each.slug == name)
    stopping = lifeline.watch()
    hf = Holdfast(told["url"], told["token"], service=name, cache_dir=told["cache"])
    hf.start()
    async with httpx.AsyncClient(base_url=told["fakes"], timeout=20) as http:
        running = Running(service, hf, http, seed=f"{name} {number}")
        await asyncio.wait(
            [asyncio.create_task(running.run(stopping)), asyncio.create_task(stopping.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        await asyncio.to_thread(hf.close)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(lifeline.first_line())))
