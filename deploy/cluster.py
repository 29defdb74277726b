"""`make cluster`: distributed mode on this machine, until Ctrl-C.

PostgreSQL and Redis of our own, two web processes, a Celery worker and beat, each a process whose
log lines carry its name. The data lives as long as the run.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from deploy.local_servers import PostgreSQL, Redis

ROOT = Path(__file__).resolve().parent.parent
MANAGE = [sys.executable, "manage.py"]
CELERY = [sys.executable, "-m", "celery", "--app", "controlplane"]
ALONE = ["--without-gossip", "--without-mingle"]  # workers tell each other nothing
PREPARATIONS = [
    ["migrate", "--verbosity", "0"],
    ["collectstatic", "--no-input", "--verbosity", "0"],
    ["firstrun"],
]
STOP_SECONDS = 30.0  # longer than a web process takes to drain


def say(name: str, line: str) -> None:
    sys.stdout.write(f"{name:<7} {line.rstrip()}\n")
    sys.stdout.flush()


class Child:
    """A process of the cluster. `ended` is set when any child ends by itself."""

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], ended: threading.Event
    ) -> None:
        self.name = name
        self._ended = ended
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C reaches us alone; we stop it in order
        )  # fmt: skip
        self._reader = threading.Thread(target=self._copy_output)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def _copy_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                say(self.name, line)
        self._ended.set()

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join()
        say("cluster", f"{self.name} stopped ({self._process.returncode})")


def settings(var: Path, postgresql: PostgreSQL, redis: Redis) -> dict[str, str]:
    """The environment of every process."""
    return os.environ | {
        "DATABASE_URL": postgresql.url,
        "REDIS_URL": redis.url,
        "SECRET_KEY": secrets.token_urlsafe(50),
        "HOLDFAST_VAR": str(var),
        "SECURE_COOKIES": "false",  # there is no TLS in front of it here
        "LOG_FORMAT": "console",
        "PYTHONUNBUFFERED": "1",
    }


def commands(host: str, *ports: int | str) -> dict[str, list[str]]:
    """Name and command of each process, in the order they start; they stop the other way round.

    There is a web process for each port.
    """
    serve = [*MANAGE, "serve", "--no-static", "--host", host, "--port"]
    return {
        "worker": [*CELERY, "worker", *ALONE, "--concurrency", "2", "--loglevel", "info"],
        "beat": [*CELERY, "beat", "--scheduler", "celery.beat:Scheduler"],
        **{f"web-{number}": [*serve, str(port)] for number, port in enumerate(ports, start=1)},
    }


def main() -> int:
    over, asked = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        asked.set()
        over.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    with ExitStack() as stack:
        var = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-cluster-")))
        say("cluster", "starting PostgreSQL and Redis")
        postgresql, redis = stack.enter_context(PostgreSQL()), stack.enter_context(Redis())
        environment = settings(var, postgresql, redis)
        for preparation in PREPARATIONS:
            subprocess.run([*MANAGE, *preparation], cwd=ROOT, env=environment, check=True)
        for name, command in commands(host, port, port + 1).items():
            stack.enter_context(Child(name, command, environment, over))
        over.wait()
        say("cluster", "stopping" if asked.is_set() else "a process ended by itself: stopping")
    return 0 if asked.is_set() else 1


if __name__ == "__main__":
    sys.exit(main())
