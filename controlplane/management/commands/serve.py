"""`manage.py serve`: the web server, with its signals and its draining."""

import contextlib
from typing import Any

import uvicorn
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

GRACE_SECONDS = 10  # for requests that are under way when the server is told to stop


class Server(uvicorn.Server):
    """Uvicorn that says goodbye to streams before it closes its doors."""

    async def shutdown(self, sockets: Any = None) -> None:
        from controlplane.asgi import application

        await application.drain()
        await super().shutdown(sockets)


class Command(BaseCommand):
    help = "Serve the console, the API and the streams until SIGTERM or Ctrl-C."
    requires_system_checks = "__all__"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--no-static", action="store_true", help="static files are in place")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["no_static"]:
            call_command("collectstatic", interactive=False, verbosity=0)
        config = uvicorn.Config(
            "controlplane.asgi:application",
            host=options["host"],
            port=options["port"],
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ws_max_size=64 * 1024,
        )
        server = Server(config)
        self.stdout.write(f"Holdfast is at http://{options['host']}:{options['port']}/")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once it has stopped
            server.run()
