"""`manage.py serve`: the web server, with its signals and its draining."""

import gc
import resource
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError
from django.urls import get_resolver

GRACE_SECONDS = 10  # for requests that are under way when the server is told to stop
FILES_WANTED = 65_536  # each stream is an open file
FEW_FILES = 4_096
# A thread that has news waits that long for one that computes, each time it has to: between the
# commit of a flip and the sockets of its streams lie a dozen such turns.
SWITCH_SECONDS = 0.001
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """Uvicorn that says goodbye to streams before it closes its doors, and then exits with 0."""

    async def shutdown(self, sockets: Any = None) -> None:
        from controlplane.asgi import application

        await application.drain()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Stop on SIGINT and SIGTERM; uvicorn would then die of the signal it has obeyed."""
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        spare_the_collector()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """The first signal drains, a second one of any kind does not wait for clients."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


class Command(BaseCommand):
    help = "Serve the console, the API and the streams until SIGTERM or Ctrl-C."
    requires_system_checks = "__all__"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--no-static", action="store_true", help="static files are in place")

    def handle(self, *args: Any, **options: Any) -> None:
        self.check_database()
        listening = listen(options["host"], options["port"])
        if not options["no_static"]:
            call_command("collectstatic", interactive=False, verbosity=0)
        if (files := raise_open_files()) < FEW_FILES:
            self.stderr.write(
                f"Only {files} files may be open, so at most about {files // 2} streams. "
                "Raise the limit (ulimit -n, LimitNOFILE=) before serving more."
            )
        config = uvicorn.Config(
            "controlplane.asgi:application",
            host=options["host"],
            port=options["port"],
            http="controlplane.express:ExpressProtocol",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,  # our application adds it, where the answer has none of its own
            lifespan="on",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ws_max_size=64 * 1024,
            ws_per_message_deflate=False,  # for each viewer anew, of what is the same
        )
        sys.setswitchinterval(SWITCH_SECONDS)
        self.stdout.write(f"Holdfast is at http://{options['host']}:{options['port']}/")
        Server(config).run(sockets=[listening])

    def check_database(self) -> None:
        """Refuse to serve what could be tampered with; a database that is away may come back."""
        try:
            self.check(databases=["default"])
        except OperationalError as error:
            self.stderr.write(f"The database does not answer yet: {error}")


def listen(host: str, port: int) -> socket.socket:
    """The socket to serve on; raises CommandError if somebody else has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise CommandError(
            f"Cannot listen on {host}:{port}: {error.strerror}. "
            "Choose another port: --port 9000, or PORT=9000 make run."
        ) from error


def spare_the_collector() -> None:
    """Keep what is loaded by now, which stays for good, out of the garbage collector's sight.

    Its full rounds would look through all of Django again and again, 80 to 300 ms each, while
    every thread of the process waits.
    """
    get_resolver().url_patterns  # noqa: B018 - loads every view
    gc.collect()
    gc.freeze()


def raise_open_files() -> int:
    """Raise the limit on open files as far as it goes; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return FILES_WANTED if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
