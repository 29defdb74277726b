"""A thousand streams of one process: what each costs, how soon a flip is with all of them.

`python -m benchmarks.streams`: light streams of 50 services, and a few services with the SDK,
follow one process. A flag of the whole environment is flipped, so that every document changes:
idle, and while 500 reports a second come in and a default is edited again and again.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil

from benchmarks.flip import (
    SETTLE_SECONDS,
    STAMPS,
    Api,
    Follower,
    Server,
    delays_of,
    environments,
    quantile,
    reporting,
    token_of,
)
from benchmarks.ingest import ROOT, manage, serving

SERVICES = 50
SDKS = 3
PAUSE_SECONDS = 0.2  # between flips, so that each is with everybody before the next
EDIT_PAUSE_SECONDS = 0.5


class Crowd:
    """A process of light streams."""

    def __init__(self, port: int, token: str, streams: int) -> None:
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "benchmarks.crowd", url, token, str(streams)]
        self._process = subprocess.Popen(
            [*command, str(SERVICES)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError("the streams did not open")

    def end(self) -> list[dict[int, float]]:
        """When each of its streams had which revision."""
        said, _nothing = self._process.communicate("", timeout=60)
        return [dict(had) for had in json.loads(said)]


def process_on(port: int) -> psutil.Process:
    for process in psutil.process_iter():
        if f"--port {port}" in " ".join(process.cmdline()):
            return process
    raise RuntimeError("there is no such server")


def kib_of(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1024


def cpu_of(process: psutil.Process) -> float:
    """Seconds it has used."""
    used = process.cpu_times()
    return float(used.user + used.system)


@contextmanager
def editing(port: int, token: str, *, enabled: bool) -> Iterator[None]:
    """A default of the environment is changed over and over meanwhile."""
    over = threading.Event()
    thread = threading.Thread(target=_edit, args=(port, token, over))
    if enabled:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if enabled:
            thread.join()


def _edit(port: int, token: str, over: threading.Event) -> None:
    api = Api(port, token)
    settings = {"settings": {"open_seconds": 20}, "reason": "bench"}
    status, body, etag = api.send("POST", "configs/breaker", settings)
    where = f"configs/breaker/{json.loads(body)['id']}"
    for turn in range(10**9):
        if over.wait(EDIT_PAUSE_SECONDS):
            break
        settings = {"settings": {"open_seconds": 20 + turn % 2}, "reason": "bench"}
        status, body, etag = api.send("PATCH", where, settings, etag)
        if status != 200:
            raise RuntimeError(f"{status} {body!r}")
    api.send("DELETE", where, None, etag)


def flip(api: Api, key: str, times: int) -> None:
    """Switch a flag of the whole environment on and off, `times` in all."""
    status, body, etag = api.post("flags", json.dumps({"key": key, "kind": "custom"}).encode())
    flag = json.loads(body)["id"]
    for number in range(times):
        action = "end" if number % 2 else "engage"
        status, body, etag = api.post(f"flags/{flag}/{action}", b'{"reason": "bench"}', etag)
        if status != 200:
            raise RuntimeError(f"{action}: {status} {body!r}")
        time.sleep(PAUSE_SECONDS)


def stamps_of(environment: dict[str, str]) -> dict[int, float]:
    found = manage(environment, "shell", "--verbosity", "0", "--command", STAMPS)
    return {int(number): at for number, at in json.loads(found).items()}


def measure(
    environment: dict[str, str], server: Server, reader: str, *, streams: int, times: int, load: int
) -> None:
    """Two lines of the table."""
    with ExitStack() as stack:
        followers = [stack.enter_context(Follower("sdk", server)) for _ in range(SDKS)]
        process = process_on(server.front)
        before = kib_of(process)
        crowd = Crowd(server.clients, reader, streams)
        crowd.wait()
        time.sleep(SETTLE_SECONDS)
        each = (kib_of(process) - before) / streams
        with (
            reporting([server.front], server.service, load),
            editing(server.front, server.operator, enabled=load > 0),
        ):
            time.sleep(SETTLE_SECONDS)
            known = max(stamps_of(environment), default=0)  # with what first reports made known
            used = cpu_of(process)
            flip(Api(server.front, server.operator), f"flip-{load}", times)
        used = cpu_of(process) - used
        time.sleep(SETTLE_SECONDS)
        had = crowd.end()
        sdks = [dict(follower.had) for follower in followers]
    at = {number: when for number, when in stamps_of(environment).items() if number > known}
    name = f"{load} reports/s and edits" if load else "idle"
    costs = f"{1e6 * used / times / streams:.0f} µs of CPU a change, {each:.1f} KiB"
    show(
        name,
        f"{streams} streams",
        [delays_of(at, one) for one in had],
        len(at),
        "" if load else costs,
    )
    show(name, f"{SDKS} SDKs", [delays_of(at, one) for one in sdks], len(at), "")


def show(name: str, who: str, delays: list[list[float]], changes: int, more: str) -> None:
    every = [delay for one in delays for delay in one]
    complete = sum(len(one) == changes for one in delays)
    print(
        f"{name:24} {who:13} {complete} had all {changes} changes  "
        f"p50 {quantile(every, 0.5):6.1f} ms  p99 {quantile(every, 0.99):6.1f} ms  "
        f"max {max(every):6.1f} ms   {more}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--reports", type=int, default=500, help="a second, under load")
    chosen = parser.parse_args()
    for name, _webs, environment in environments():
        print(f"{name}: commit of a change → a stream has it")
        manage(environment, "migrate", "--verbosity", "0")
        scopes = ("flags:write", "config:read", "config:write")
        operator = token_of(environment, *(part for each in scopes for part in ("--scope", each)))
        reader = token_of(environment, "--scope", "policies:read")
        service = token_of(
            environment, "--service", "checkout", "--scope", "policies:read",
            "--scope", "reports:write",
        )  # fmt: skip
        with serving(environment) as port:
            server = Server(port, port, operator, service)
            for load in (0, chosen.reports):
                measure(
                    environment,
                    server,
                    reader,
                    streams=chosen.streams,
                    times=chosen.times,
                    load=load,
                )


if __name__ == "__main__":
    main()
