"""Holdfast and services as processes of their own, for tests that kill them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from deploy.local_servers import free_port

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "CELERY_BROKER_URL", "HOLDFAST_WEB")


def eventually(is_so: Callable[[], bool], *, within: float, what: str) -> float:
    """Wait until `is_so`; returns the seconds it took, fails after `within`."""
    started = time.monotonic()
    while not is_so():
        if time.monotonic() - started > within:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - started


class Process:
    """A program that answers on a port of its own; killed at the end if it still runs."""

    def __init__(self, arguments: list[str], environment: dict[str, str], *, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
        self._environment = inherited | environment
        self._arguments = [argument.replace("{port}", str(self.port)) for argument in arguments]
        self._log = log

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(self.answers, within=60, what=f"{self._arguments} answers ({self._log})")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def answers(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"it ended by itself:\n{self._log.read_text()[-4000:]}")
        try:
            httpx.get(self.url, timeout=5)
        except httpx.TransportError:
            return False
        return True

    def kill(self) -> None:
        """`kill -9`: no goodbye, nothing flushed."""
        self._process.kill()
        self._process.wait()


class Holdfast(Process):
    """An embedded Holdfast with a database, an environment and an operator of its own."""

    def __init__(self, var: Path) -> None:
        self._var = var
        super().__init__(
            ["manage.py", "serve", "--port", "{port}"],
            {"HOLDFAST_VAR": str(var), "LOG_FORMAT": "json"},
            log=var / "server.log",
        )
        self.manage("migrate", "--verbosity", "0")
        self.manage("firstrun", "--environment", "production")

    def manage(self, *arguments: str) -> str:
        """Run a management command on its database; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def password(self) -> str:
        """The operator's, as `firstrun` kept it."""
        lines = (self._var / "credentials").read_text().splitlines()
        return lines[1].removeprefix("password: ")

    def token(self, *scopes: str, service: str = "") -> str:
        """A new token of the environment `production`."""
        asked = [argument for scope in scopes for argument in ("--scope", scope)]
        bound = ["--service", service] if service else []
        printed = self.manage("createtoken", "--environment", "production", *bound, *asked)
        return printed.splitlines()[-1]
