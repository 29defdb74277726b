"""Holdfast and services as processes of their own, for tests that kill them."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from deploy import cluster
from deploy.local_servers import PostgreSQL, Redis, free_port, postgresql_programs
from tests.run import MIGRATED_POSTGRESQL, MIGRATED_SQLITE

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "CELERY_BROKER_URL", "HOLDFAST_WEB")


def eventually(
    is_so: Callable[[], bool], *, within: float, what: str, every: float = 0.01
) -> float:
    """Wait until `is_so`; returns the seconds it took, fails after `within`."""
    started = time.monotonic()
    while not is_so():
        if time.monotonic() - started > within:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(every)
    return time.monotonic() - started


class Process:
    """A program that answers on a port of its own; killed at the end if it still runs.

    After `kill`, `start` starts it anew on the same port.
    """

    def __init__(self, arguments: list[str], environment: dict[str, str], *, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
        self._environment = inherited | environment
        self._arguments = [argument.replace("{port}", str(self.port)) for argument in arguments]
        self._log = log

    def __enter__(self) -> Self:
        self.start()
        self.wait_until_up()
        return self

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_up(self) -> None:
        eventually(self.answers, within=60, what=f"{self._arguments} answers ({self._log})")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ask_to_stop()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def ask_to_stop(self) -> None:
        self._process.terminate()

    def answers(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"it ended by itself:\n{self._log.read_text()[-4000:]}")
        try:
            httpx.get(self.url, timeout=5)
        except httpx.TransportError:
            return False
        return True

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self, how: signal.Signals) -> int:
        """Send a signal that ends it, and wait for that; returns the exit code."""
        self._process.send_signal(how)
        return self._process.wait(30)

    def kill(self) -> None:
        """`kill -9`: no goodbye, nothing flushed."""
        self._process.kill()
        self._process.wait()


class Installation:
    """A database of Holdfast's with an environment and an operator, as the command line sees it."""

    def __init__(self, var: Path, environment: dict[str, str]) -> None:
        self.var = var
        self.environment = environment
        self._commands: subprocess.Popen[str] | None = None

    def manage(self, *arguments: str) -> str:
        """Run a management command on its database; returns what it printed."""
        commands = self._commands or self._begin_commands()
        assert commands.stdin is not None
        assert commands.stdout is not None
        commands.stdin.write(json.dumps(arguments) + "\n")
        commands.stdin.flush()
        code, printed = json.loads(commands.stdout.readline())
        assert code == 0, printed
        return str(printed)

    def end_commands(self) -> None:
        """End the process they run in, if there is one."""
        if self._commands is not None:
            self._commands.communicate()
            self._commands = None

    def _begin_commands(self) -> "subprocess.Popen[str]":
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
        django = {"DJANGO_SETTINGS_MODULE": "controlplane.settings"}
        self._commands = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.commands"],
            cwd=ROOT,
            env=inherited | django | self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self._commands

    @property
    def password(self) -> str:
        """The operator's, as `firstrun` kept it."""
        lines = (self.var / "credentials").read_text().splitlines()
        return lines[1].removeprefix("password: ")

    def token(self, *scopes: str, service: str = "") -> str:
        """A new token of the environment `production`."""
        asked = [argument for scope in scopes for argument in ("--scope", scope)]
        bound = ["--service", service] if service else []
        printed = self.manage("createtoken", "--environment", "production", *bound, *asked)
        return printed.splitlines()[-1]


class Holdfast(Installation, Process):
    """An embedded Holdfast with a database, an environment and an operator of its own."""

    def __init__(self, var: Path) -> None:
        environment = {"HOLDFAST_VAR": str(var), "LOG_FORMAT": "json"}
        Installation.__init__(self, var, environment)
        Process.__init__(
            self,
            ["manage.py", "serve", "--port", "{port}"],
            environment,
            log=var / "server.log",
        )
        shutil.copytree(first_run(), var, dirs_exist_ok=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end_commands()
        super().__exit__(kind, error, traceback)


def fill(database: PostgreSQL) -> None:
    """Copy what `tests.run` has migrated, if it has; the empty database is migrated afterwards."""
    if migrated := os.environ.get(MIGRATED_POSTGRESQL):
        programs = postgresql_programs()
        dump = [f"{programs}/pg_dump", "--no-owner", migrated]
        restore = [f"{programs}/psql", "--quiet", "--output=/dev/null", database.url]
        dumped = subprocess.run(dump, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(restore, check=True, input=dumped)


@cache
def first_run() -> Path:
    """What an embedded Holdfast has in its folder before it is served for the first time."""
    var = Path(tempfile.mkdtemp(prefix="holdfast-first-run-"))
    atexit.register(shutil.rmtree, var)
    if migrated := os.environ.get(MIGRATED_SQLITE):
        shutil.copy(migrated, var)
    new = Installation(var, {"HOLDFAST_VAR": str(var)})
    new.manage("migrate", "--verbosity", "0")
    new.manage("firstrun", "--environment", "production")
    new.end_commands()
    return var


class Background(Process):
    """A process without a port: it is up once its log says `ready`; if that is empty, at once."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], *, log: Path, ready: str
    ) -> None:
        super().__init__(arguments, environment, log=log)
        self._ready = ready
        self._earlier = 0

    def start(self) -> None:
        if self._log.exists():
            self._earlier = self.log.count(self._ready)
        super().start()

    def answers(self) -> bool:
        if not self.is_running:
            raise AssertionError(f"it ended by itself:\n{self.log[-4000:]}")
        return not self._ready or self.log.count(self._ready) > self._earlier


class Cluster(Installation):
    """`make cluster` for a test: PostgreSQL and Redis of its own, two web processes, worker, beat.

    Args:
        is_whole: With worker and beat, which the tests of web processes do without.
    """

    def __init__(self, var: Path, *, is_whole: bool = True) -> None:
        self._stack = ExitStack()
        self._names = ["web-1", "web-2", *(["worker", "beat"] if is_whole else [])]
        self.var = var

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.postgresql = stack.enter_context(PostgreSQL())
            self.redis = stack.enter_context(Redis())
            fill(self.postgresql)
            environment = cluster.settings(self.var, self.postgresql, self.redis)
            super().__init__(self.var, environment | {"LOG_FORMAT": "json"})
            for command in cluster.PREPARATIONS:
                self.manage(*command)
            commands = cluster.commands("127.0.0.1", "{port}", "{port}")
            self.processes = {name: self._process(name, commands[name]) for name in self._names}
            for process in self.processes.values():
                process.start()
                stack.push(process)
            for process in self.processes.values():
                process.wait_until_up()
            self._stack = stack.pop_all()
        return self

    def _process(self, name: str, command: list[str]) -> Process:
        arguments, log = command[1:], self.var / f"{name}.log"
        if name.startswith("web"):
            return Process(arguments, self.environment, log=log)
        ready = " ready." if name == "worker" else ""
        return Background(arguments, self.environment, log=log, ready=ready)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end_commands()
        for process in self.processes.values():
            process.ask_to_stop()  # all at once, then wait for each
        self._stack.__exit__(kind, error, traceback)

    @property
    def webs(self) -> list[Process]:
        return [self.processes["web-1"], self.processes["web-2"]]
