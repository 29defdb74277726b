"""Starts the processes of the demo, starts again those that die, and ends all when it ends.

It lives as long as the process that started it: `make run` starts it from the shell that becomes
the server. Each child holds the other end of a pipe, so that even `kill -9` ends them all.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from demo.plan import CALM, FOLDER, SERVICES

LOOPBACK = "127.0.0.1"
LOOK_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds before a child that died is started again
STEADY_SECONDS = 30.0  # a child that lived that long starts again with the first pause
STOP_SECONDS = 5.0


class Child:
    """A process that is started again when it dies, later each time.

    `told` makes its first line of input; until then it waits, its imports done.
    """

    def __init__(
        self, name: str, arguments: list[str], told: Callable[[], str], *, fds: tuple[int, ...] = ()
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-m", *arguments]
        self._told = told
        self._fds = fds
        self._pause = FIRST_PAUSE
        self._start_at = 0.0
        self._is_told = False
        self._process: subprocess.Popen[str] | None = None

    def look(self, now: float, *, is_ready: bool) -> None:
        """Start it if it is due, tell it what to do once that is known, notice its death."""
        if self._process is None:
            if now >= self._start_at:
                self._start(now)
        elif self._process.poll() is not None:
            self._died(now, self._process.returncode)
        elif is_ready and not self._is_told:
            self._tell(self._process)

    def _start(self, now: float) -> None:
        self._is_told = False
        self._started_at = now
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, text=True, pass_fds=self._fds
        )

    def _tell(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        self._is_told = True
        try:
            process.stdin.write(f"{self._told()}\n")
            process.stdin.flush()
        except BrokenPipeError:
            return  # it died; the next look notices

    def _died(self, now: float, code: int) -> None:
        if now - self._started_at >= STEADY_SECONDS:
            self._pause = FIRST_PAUSE
        say(f"{self.name} ended with {code}; it starts again in {self._pause:.1f} s")
        self._start_at = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self.hang_up()
        self._process = None

    def hang_up(self) -> None:
        """Close its input, at which it ends."""
        if self._process is not None and self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                return

    def end(self, deadline: float) -> None:
        """Wait for its end; kill it at the deadline."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None


def say(line: str) -> None:
    sys.stderr.write(f"demo: {line}\n")


def kept_port(var: Path) -> int:
    """Where the fakes listen: as the last time if that is free, for Holdfast's checks ask there."""
    path = var / FOLDER / "fakes.json"
    kept = urlsplit(json.loads(path.read_text())["url"]).port if path.exists() else 0
    with listen(kept or 0) as listening:
        port: int = listening.getsockname()[1]
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, {"url": f"http://{LOOPBACK}:{port}"})
    return port


def listen(port: int) -> socket.socket:
    """A socket on this port, or on any that is free if this one is taken."""
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError:
        return socket.create_server((LOOPBACK, 0))


def children(
    url: str, folder: Path, listening: socket.socket, *, is_calm: bool = False
) -> list[Child]:
    """The fakes, and every process of every service."""
    fakes = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
    write_private(folder / "fakes.json", {"url": fakes})
    fd = listening.fileno()
    word = CALM if is_calm else "as planned"
    found = [Child("fakes", ["demo.fakes", str(fd)], lambda: word, fds=(fd,))]
    tokens = json.loads((folder / "tokens.json").read_text())
    for service in SERVICES:
        for number in range(1, service.processes + 1):
            name = f"{service.slug}-{number}"
            told = {
                "url": url,
                "token": tokens[service.slug],
                "fakes": fakes,
                "cache": str(folder / "cache" / name),
            }
            arguments = ["demo.service", service.slug, str(number)]
            found.append(Child(name, arguments, lambda told=told: json.dumps(told)))  # type: ignore[misc]  # default binds it
    return found


def write_private(path: Path, content: Any) -> None:
    """A file for nobody else's eyes, from its first byte on."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(content, file)


def is_up(url: str) -> bool:
    """Whether the server has policies to serve."""
    try:
        return httpx.get(f"{url}/api/v1/health/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def is_over(heard: list[int]) -> bool:
    return signal.SIGTERM in heard or heard.count(signal.SIGINT) > 1


def run(url: str, var: Path, *, is_calm: bool = False) -> None:
    """Run the demo until SIGTERM, or the death of the process that started this one.

    Ctrl-C, which the server hears too, is not enough: the fleet lives as long as the server, or
    Holdfast would see its dependencies fail while it stops. A second one ends it.
    """
    parent = os.getppid()
    heard: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _frame: heard.append(got))
    with listen(kept_port(var)) as listening:
        fleet = children(url, var / FOLDER, listening, is_calm=is_calm)
        is_ready = False
        while not is_over(heard) and os.getppid() == parent:
            is_ready = is_ready or is_up(url)
            for child in fleet:
                child.look(time.monotonic(), is_ready=is_ready)
            time.sleep(LOOK_SECONDS)
        for child in fleet:
            child.hang_up()
        deadline = time.monotonic() + STOP_SECONDS
        for child in fleet:
            child.end(deadline)
