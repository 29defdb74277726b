"""POST /api/v1/reports without a view and without SQL, in front of Django.

It takes the reports there is nothing to say about: of a token this process knows and a service it
has heard of, and says when it has no room. Everything else goes on to Django, untouched: the view
is the reference, and says what is wrong with a report.
"""

import re
import time
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Protocol

import msgspec
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from rest_framework.exceptions import APIException, Throttled

from apps.core import problems
from apps.core.bodies import Application, Receive, Scope, Send, again_from, whole
from apps.core.errors import DomainError
from apps.core.parsers import MAX_BODY, unpacked
from apps.core.replies import Headers, Reply, send_reply
from apps.telemetry import ingest, reports

PATH = re.compile(r"^/api/v1/reports/?$")
SCOPE = "reports:write"
NUL = b"\\u0000"


class Bearer(Protocol):
    """Whose token it is."""

    @property
    def environment_id(self) -> int: ...
    @property
    def service(self) -> str | None: ...
    @property
    def scopes(self) -> frozenset[str]: ...


class ReportsGate:
    """An ASGI application for the path of reports.

    Args:
        django: Gets every request that is not taken here.
        bearer_of: Who sends this `Authorization` header, from memory; None if that is not known.
        observe: Told of each report taken here: name of the view, method, status, seconds.
    """

    def __init__(
        self,
        django: Application,
        bearer_of: Callable[[str], Bearer | None],
        observe: Callable[[str, str, int, float], None],
    ) -> None:
        self._django = django
        self._bearer_of = bearer_of
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, headers = time.perf_counter(), _headers(scope)
        bearer = self._bearer(scope, headers)
        if bearer is None:
            await self._django(scope, receive, send)
            return
        messages = await whole(receive, MAX_BODY)
        body = b"".join(message.get("body", b"") for message in messages)
        is_whole = not messages[-1].get("more_body", True)
        reply = self._taken(bearer, headers, body, began) if is_whole else None
        if reply is None:
            await self._django(scope, again_from(messages, receive), send)
        else:
            await send_reply(send, reply)

    def at_once(self, scope: Scope, body: bytes) -> Reply | None:
        """The answer to a whole request, if it is for here; None: call the application."""
        began, headers = time.perf_counter(), _headers(scope)
        bearer = self._bearer(scope, headers)
        return None if bearer is None else self._taken(bearer, headers, body, began)

    def _bearer(self, scope: Scope, headers: dict[bytes, str]) -> Bearer | None:
        """Who sends this; None if Django has to look at it."""
        if not _is_plain(scope, headers):
            return None
        bearer = self._bearer_of(headers.get(b"authorization", ""))
        return bearer if bearer is not None and SCOPE in bearer.scopes else None

    def _taken(
        self, bearer: Bearer, headers: dict[bytes, str], body: bytes, began: float
    ) -> Reply | None:
        reply = _take(bearer, headers, body)
        if reply is not None:
            self._observe("report", "POST", reply[0], time.perf_counter() - began)
        return reply


def _headers(scope: Scope) -> dict[bytes, str]:
    """By lower-case name; what is repeated is joined, as Django does, and so is not plain."""
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        text, before = value.decode("latin-1"), found.get(name.lower())
        found[name.lower()] = text if before is None else f"{before},{text}"
    return found


def _is_plain(scope: Scope, headers: dict[bytes, str]) -> bool:
    """Whether there is nothing special about the request that Django would have to look at."""
    return (
        scope["method"] == "POST"
        and not scope.get("query_string")
        and headers.get(b"content-type", "").partition(";")[0].strip() == "application/json"
        and _is_among(headers.get(b"host", ""), tuple(settings.ALLOWED_HOSTS))
    )


@lru_cache(maxsize=256)
def _is_among(host: str, allowed: tuple[str, ...]) -> bool:
    domain, _port = split_domain_port(host)
    return validate_host(domain, allowed)


def _take(bearer: Bearer, headers: dict[bytes, str], body: bytes) -> Reply | None:
    """What is said to a report that is taken, or for which there is no room; None: to others."""
    try:
        body = unpacked(body, headers.get(b"content-encoding", ""), limit=MAX_BODY)
        report = reports.read(body)
    except (DomainError, APIException):
        return None  # the view says what is wrong with it
    service = report.service or bearer.service
    if NUL in body or service is None or bearer.service not in (None, service):
        return None
    service_id = ingest.current.services.get((bearer.environment_id, service))
    if service_id is None:
        return None
    seconds = ingest.current.accept(bearer.environment_id, service_id, report, len(body))
    return _full() if seconds is None else _accepted(seconds)


@lru_cache(maxsize=64)  # of the paces that are told
def _accepted(seconds: float) -> Reply:
    body = msgspec.json.encode({"report_seconds": seconds})
    return (
        202,
        Headers({"Content-Type": "application/json", "Content-Length": f"{len(body)}"}),
        body,
    )


@cache
def _full() -> Reply:
    """As the view says it, at a small part of its cost: it is said when there is much to do."""
    refusal = problems.handler(Throttled(wait=ingest.RETRY_AFTER_SECONDS), {})
    assert refusal is not None  # the handler knows it
    body = msgspec.json.encode(refusal.data)
    headers = {"Content-Type": problems.CONTENT_TYPE, "Content-Length": f"{len(body)}"}
    return 429, Headers({**headers, "Retry-After": refusal.headers["Retry-After"]}), body
