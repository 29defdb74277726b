"""Starting and stopping: Ctrl-C leaves nothing behind, and a restart is no storm."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.local_servers import free_port
from holdfast import Holdfast as Client
from holdfast._pace import Backoff
from holdfast._settings import Timing
from tests.e2e.processes import NOT_OURS, ROOT, Holdfast, eventually

CROWD = 500
SOURCES = ("apps", "controlplane", "requirements", "sdk", "static", "templates", "deploy")


class TestMakeRun:
    def test_ctrl_c_stops_everything(self, tmp_path: Path) -> None:
        copy = a_copy(tmp_path / "copy")
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
        with (tmp_path / "log").open("wb") as log:
            make = subprocess.Popen(
                ["make", "--old-file", ".venv/base", "run", f"PORT={port}"],
                cwd=copy,
                env=environment | {"DEMO": "0", "HOLDFAST_VAR": str(tmp_path / "var")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(lambda: answers(port), within=60, what="it answers")
        family = psutil.Process(make.pid).children(recursive=True)

        os.killpg(make.pid, signal.SIGINT)  # what a terminal does with Ctrl-C
        make.wait(20)

        eventually(lambda: not any(map(is_alive, family)), within=5, what="all are gone")
        assert family
        assert not answers(port)
        assert "Traceback" not in (tmp_path / "log").read_text()


def a_copy(to: Path) -> Path:
    """The parts of the checkout that `make run` needs, with the tests' packages installed."""
    for name in SOURCES:
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "manage.py"):
        shutil.copy2(ROOT / name, to)
    (to / ".venv").symlink_to(sys.prefix)
    return to


def answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/api/v1/health/live", timeout=5)
    except httpx.TransportError:
        return False
    return True


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


class TestStorm:
    @pytest.mark.timeout(240)  # several waits, each with its own bound
    def test_500_services_do_not_come_back_all_at_once(self, tmp_path: Path) -> None:
        with Holdfast(tmp_path) as server, ExitStack() as stack:
            token = server.token("policies:read", service="many")
            clients = [
                stack.enter_context(
                    Client(server.url, token, service="many", cache_dir=tmp_path / str(number))
                )
                for number in range(3)
            ]
            eventually(lambda: all(map(is_streaming, clients)), within=20, what="clients stream")
            arrivals = asyncio.run(storm(server, token))
            eventually(lambda: all(map(is_streaming, clients)), within=30, what="clients are back")

        # When each came, not when a busy machine answered it.
        nearly_all = sorted(arrivals)[: CROWD * 95 // 100]  # without the few who wait longest
        seconds = Counter(int(at - nearly_all[0]) for at in nearly_all)
        mean = len(nearly_all) / (nearly_all[-1] - nearly_all[0])
        assert len(arrivals) == CROWD
        assert max(seconds.values()) <= 2 * mean


def is_streaming(client: Client) -> bool:
    policy = client.stats()["policy"]
    return policy is not None and bool(policy["streaming"])


async def storm(server: Holdfast, token: str) -> list[float]:
    """Restart a server that a crowd streams from; returns when each came that was greeted again."""
    crowd = [Streamer(server.port, token) for _ in range(CROWD)]
    tasks = [asyncio.create_task(each.run()) for each in crowd]
    try:
        await asyncio.to_thread(
            eventually, lambda: greeted(crowd) == CROWD, within=60, what="all stream"
        )
        await asyncio.to_thread(server.end, signal.SIGTERM)
        server.start()
        await asyncio.to_thread(
            eventually, lambda: greeted(crowd) == 2 * CROWD, within=120, what="all are back"
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [each.came[1] for each in crowd]


def greeted(crowd: list["Streamer"]) -> int:
    return sum(len(each.came) for each in crowd)


class Streamer:
    """One stream, as the SDK keeps it, without the rest: it waits as the SDK waits."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._request = (
            f"GET /api/v1/policies/many/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: Bearer {token}\r\nHoldfast-Instance: {uuid.uuid4()}\r\n\r\n"
        ).encode()
        self._backoff = Backoff(4.0, Timing().backoff_max_seconds)
        self.came: list[float] = []  # when it connected, each time it was greeted

    async def run(self) -> None:
        while True:
            try:
                seconds = await self._follow()
            except OSError:
                seconds = 0.0
            await asyncio.sleep(seconds + self._backoff.next())

    async def _follow(self) -> float:
        """Read one stream to its end; returns the seconds the server asked to stay away."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        connected_at = time.monotonic()
        try:
            writer.write(self._request)
            event = ""
            async for raw in reader:
                line = raw.decode().strip()
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: ") and event == "hello":
                    self.came.append(connected_at)
                    self._backoff.reset()
                elif line.startswith("data: ") and event == "goodbye":
                    return float(json.loads(line.removeprefix("data: "))["retry_after_seconds"])
                elif line.lower().startswith("retry-after: "):
                    return float(line.partition(": ")[2])
            return 0.0
        finally:
            writer.close()
