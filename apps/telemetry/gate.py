"""POST /api/v1/reports without a view and without SQL, in front of Django.

It takes the reports there is nothing to say about: of a token this process knows and a service it
has heard of. Everything else goes on to Django, untouched: the view is the reference, and the only
one that refuses.
"""

import re
import time
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from rest_framework.exceptions import APIException

from apps.core.bodies import Application, Receive, Send, again_from, whole
from apps.core.errors import DomainError
from apps.core.parsers import MAX_BODY, unpacked
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

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers = _headers(scope)
        bearer = self._bearer_of(headers.get(b"authorization", ""))
        if bearer is None or not _is_plain(scope, headers) or SCOPE not in bearer.scopes:
            await self._django(scope, receive, send)
            return
        messages = await whole(receive, MAX_BODY)
        body = b"".join(message.get("body", b"") for message in messages)
        is_whole = not messages[-1].get("more_body", True)
        seconds = _take(bearer, headers, body) if is_whole else None
        if seconds is None:
            await self._django(scope, again_from(messages, receive), send)
            return
        self._observe("report", "POST", 202, time.perf_counter() - began)
        await _accept(send, seconds)


def _headers(scope: MutableMapping[str, Any]) -> dict[bytes, str]:
    """By lower-case name; what is repeated is joined, as Django does, and so is not plain."""
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        text, before = value.decode("latin-1"), found.get(name.lower())
        found[name.lower()] = text if before is None else f"{before},{text}"
    return found


def _is_plain(scope: MutableMapping[str, Any], headers: dict[bytes, str]) -> bool:
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


def _take(bearer: Bearer, headers: dict[bytes, str], body: bytes) -> float | None:
    """The seconds until the next report is to come; None if this one is not for here."""
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
    return ingest.current.accept(bearer.environment_id, service_id, report, len(body))


async def _accept(send: Send, seconds: float) -> None:
    body = msgspec.json.encode({"report_seconds": seconds})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})
