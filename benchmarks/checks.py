"""How punctually one process runs a thousand checks: `python -m benchmarks.checks`.

Half are of HTTP and half of TCP, each every 30 s, of servers of our own on loopback. A start's lag
is from the instant at which the database had it due until the server was connected to (TCP) or had
the request (HTTP). First all servers answer; then one in twenty takes the request and never does.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from benchmarks.flip import environments, quantile
from benchmarks.ingest import ROOT, manage, serving
from benchmarks.streams import cpu_of, process_on

HUNG = 20  # one check of so many, in the second half
MARGIN_SECONDS = 3.0  # what is due so shortly before the end may not have started

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Targets:
    """The servers that are checked, on a loop of their own, and when each was reached."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_hung = False
        self.reached: dict[str, list[float]] = defaultdict(list)  # by the check's name
        self.ports: list[int] = []  # of HTTP, and then one for each check of TCP
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(30)

    async def _open(self) -> None:
        await self._listen(self._answer)
        for each in range(self.number - self.number // 2, self.number):
            await self._listen(self._accept(each))

    async def _listen(self, handler: Handler) -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        self.ports.append(server.sockets[0].getsockname()[1])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """HTTP: `GET /<number of the check>`."""
        with suppress(OSError, asyncio.IncompleteReadError):
            each = int((await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1][1:])
            self.reached[f"check-{each}"].append(time.time())
            if self.is_hung and each % HUNG == 0:
                await reader.read()  # until the other side gives up
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
        writer.close()

    def _accept(self, each: int) -> Handler:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.reached[f"check-{each}"].append(time.time())
            writer.close()

        return accept


class Due:
    """The process that adds the checks, and tells when they are due."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.starts: set[tuple[str, float]] = set()
        self.latencies: list[tuple[str, float]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if isinstance(said, dict):
                self.starts.update(said.items())
            else:
                self.latencies = [(kind, seconds) for kind, seconds in said]

    def wait(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError("the checks could not be added")
        self._reader.start()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reader.join(30)
        self._process.wait(30)


@contextmanager
def telling(environment: dict[str, str], targets: Targets) -> Iterator[Due]:
    command = [sys.executable, "-m", "benchmarks.due", str(targets.number)]
    process = subprocess.Popen(
        command + [str(port) for port in targets.ports],
        cwd=ROOT,
        env=environment | {"DJANGO_SETTINGS_MODULE": "controlplane.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    due = Due(process)
    try:
        due.wait()
        yield due
    finally:
        due.end()


def lags(due: Due, targets: Targets, since: float, until: float) -> tuple[list[float], int]:
    """Seconds that each start came late, and how many never came."""
    found, missing = [], 0
    for name, at in due.starts:
        if since <= at < until - MARGIN_SECONDS:
            came = [when - at for when in targets.reached[name] if when > at - 0.01]
            found += [min(came)] if came else []
            missing += not came
    return found, missing


def show(name: str, due: Due, targets: Targets, since: float, cpu: float) -> None:
    until = time.time()
    found, missing = lags(due, targets, since, until)
    p50, p99, most = (1000 * quantile(found, share) for share in (0.5, 0.99, 1.0))
    print(
        f"{name:32} start lag p50 {p50:5.0f} ms  p99 {p99:5.0f} ms  max {most:5.0f} ms  "
        f"n={len(found)}, {missing} missing   {cpu / (until - since):4.0%} of a core",
        flush=True,
    )


def measure(name: str, environment: dict[str, str], targets: Targets, seconds: float) -> None:
    with ExitStack() as stack:
        due = stack.enter_context(telling(environment, targets))
        process = process_on(stack.enter_context(serving(environment)))
        time.sleep(seconds / 2)  # until every check has run
        for targets.is_hung in (False, True):
            since, used = time.time(), cpu_of(process)
            time.sleep(seconds)
            title = f"{name}, 1 of {HUNG} hung" if targets.is_hung else f"{name}, all answer"
            show(title, due, targets, since, cpu_of(process) - used)
    for kind in ("http", "tcp"):
        took = [1000 * seconds for of, seconds in due.latencies if of == kind]
        p50, p99 = quantile(took, 0.5), quantile(took, 0.99)
        print(f"{name}, as {kind} measured: p50 {p50:.1f} ms  p99 {p99:.1f} ms  n={len(took)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each half")
    chosen = parser.parse_args()
    for name, _webs, environment in environments():
        manage(environment, "migrate", "--verbosity", "0")
        targets = Targets(chosen.checks)
        measure(name, environment, targets, chosen.seconds)


if __name__ == "__main__":
    main()
