"""The outermost application: lifespan, streams, reports, sockets, and Django for the rest."""

import asyncio
import itertools
import os
import re
import time
import uuid
from email.utils import formatdate
from functools import lru_cache
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

import structlog  # noqa: E402
from django.conf import settings  # noqa: E402
from servestatic import ServeStaticASGI  # noqa: E402

from apps.core import bus, loops, pace  # noqa: E402
from apps.core.bodies import BoundedBodies, Scope  # noqa: E402
from apps.core.replies import Reply  # noqa: E402
from apps.deadletters.gate import PATH as CLAIMS_PATH  # noqa: E402
from apps.deadletters.gate import ClaimsGate, waiters  # noqa: E402
from apps.delivery import state as delivery  # noqa: E402
from apps.delivery.gate import PATH as POLICY_PATH  # noqa: E402
from apps.delivery.gate import PolicyGate  # noqa: E402
from apps.delivery.streams import PATH as STREAM_PATH  # noqa: E402
from apps.delivery.streams import Streams  # noqa: E402
from apps.live.routing import websockets  # noqa: E402
from apps.metrics.own import Observed  # noqa: E402
from apps.telemetry import ingest  # noqa: E402
from apps.telemetry.gate import PATH as REPORTS_PATH  # noqa: E402
from apps.telemetry.gate import ReportsGate  # noqa: E402
from controlplane.celery import app as celery_app  # noqa: E402
from controlplane.embedded import EmbeddedCelery  # noqa: E402

_BOOT = uuid.uuid4().hex[:24].encode()  # ids of this process begin with it
_numbers = itertools.count(1)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Application:
    """Routes each ASGI connection to what answers it."""

    def __init__(self) -> None:
        settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # `--no-static` may not have it
        files = ServeStaticASGI(
            django_application, root=settings.STATIC_ROOT, prefix=settings.STATIC_URL
        )
        self.http = BoundedBodies(files, most=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        self.streams = Streams()
        observed = Observed()
        self.policies = PolicyGate(self.http, delivery.get(), observed)
        self.reports = ReportsGate(self.http, delivery.get().bearer_of, observed)
        self.claims = ClaimsGate(self.http, delivery.get().bearer_of)
        self.background: EmbeddedCelery | None = None
        self.pacing: asyncio.Task[None] | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        request_id, headers = with_request_id(scope["headers"])
        scope = {**scope, "headers": headers}
        send = send if scope["type"] == "websocket" else completed(send, request_id)
        if scope["type"] == "websocket":
            with structlog.contextvars.bound_contextvars(request_id=request_id.decode()):
                await websockets(scope, receive, send)
        elif POLICY_PATH.match(scope["path"]):
            await self.policies(scope, receive, send)
        elif STREAM_PATH.match(scope["path"]):
            with structlog.contextvars.bound_contextvars(request_id=request_id.decode()):
                await self.streams(scope, receive, send)
        elif REPORTS_PATH.match(scope["path"]):
            await self.reports(scope, receive, send)
        elif CLAIMS_PATH.match(scope["path"]):
            await self.claims(scope, receive, send)
        else:
            await self.http(scope, receive, send)

    def at_once(self, scope: Scope, body: bytes) -> tuple[bytes, Reply] | None:
        """Id and answer of a request that can be answered from memory; None: call me with it."""
        request_id, headers = with_request_id(scope["headers"])
        scope["headers"] = headers
        if scope["method"] == "POST":
            reply = self.reports.at_once(scope, body)
        else:
            reply = self.policies.at_once(scope)
        return None if reply is None else (request_id, reply)

    async def lifespan(self, receive: Any, send: Any) -> None:
        """Start the bus and the background loops with the server, and stop them with it."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def start(self) -> None:
        bus.get().attach(asyncio.get_running_loop())
        self.streams.start()
        self.policies.start()
        waiters.open()
        self.pacing = asyncio.create_task(
            pace.follow(pace.current, lambda: ingest.current.full_share)
        )
        loops.start_all()
        if settings.EMBEDDED:
            self.background = EmbeddedCelery(celery_app)
            await asyncio.to_thread(self.background.start)

    async def drain(self) -> None:
        """Say goodbye to every stream, so that clients leave before the server does.

        Workers that wait for dead letters are answered.
        """
        waiters.drain()
        await self.streams.drain()
        self.policies.drain()

    async def stop(self) -> None:
        await self.drain()
        if self.pacing is not None:
            self.pacing.cancel()
        self.streams.stop()
        self.policies.stop()
        if self.background is not None:
            await asyncio.to_thread(self.background.stop)
        await asyncio.to_thread(loops.stop_all)
        bus.get().attach(None)


Headers = list[tuple[bytes, bytes]]


def with_request_id(headers: Headers) -> tuple[bytes, Headers]:
    """The request's id and its headers with that id: the caller's if well-formed, or one of ours.

    Logs, audit entries, tasks and sockets of the request carry it, so nothing else may be in it.
    """
    given = [value for name, value in headers if name == b"x-request-id"]
    if not given:
        keep = b"%s%08x" % (_BOOT, next(_numbers))
        return keep, [*headers, (b"x-request-id", keep)]
    is_good = len(given) == 1 and _REQUEST_ID.fullmatch(given[0])
    keep = given[0] if is_good else b"%s%08x" % (_BOOT, next(_numbers))
    rest = [(name, value) for name, value in headers if name != b"x-request-id"]
    return keep, [*rest, (b"x-request-id", keep)]


@lru_cache(maxsize=1)
def http_date(now: int) -> bytes:
    return formatdate(now, usegmt=True).encode()


def is_dated(headers: Headers) -> bool:
    if headers and headers[0][0] == b"date":  # where policies have it
        return True
    return any(name.lower() == b"date" for name, _value in headers)


def completed(send: Any, request_id: bytes) -> Any:
    """`send` that puts the request's id into the answer, and a Date where it has none.

    The server adds no Date itself: policies carry the one their leases are counted from.
    """

    async def complete(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = message.get("headers", ())
            headers = [*given, (b"x-request-id", request_id)]
            if not is_dated(given):
                headers.append((b"date", http_date(int(time.time()))))
            message = {**message, "headers": headers}
        await send(message)

    return complete


application = Application()
