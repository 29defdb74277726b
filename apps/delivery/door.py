"""What the raw ASGI applications of this app share: they stand in front of Django.

What Django's middlewares would do on the way, they do themselves.
"""

import asyncio
import time
from functools import lru_cache
from urllib.parse import parse_qs

from django.conf import settings
from django.db import connections
from django.http.request import split_domain_port, validate_host

from apps.core import clock
from apps.core.bodies import Scope
from apps.delivery.answers import Asked, Token, token_in
from apps.delivery.snapshot import Snapshot
from apps.delivery.state import State


def headers_of(scope: Scope) -> dict[str, str]:
    """Header values by lower-case name. A repeated header is joined, as Django does: two tokens or
    hosts are then none, whichever of them a proxy has looked at.
    """
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def asked_of(scope: Scope, headers: dict[str, str], service: str) -> Asked:
    """What of a request decides its answer."""
    raw = scope.get("query_string", b"")
    query = parse_qs(raw.decode("latin-1"), keep_blank_values=True) if raw else {}
    return Asked(
        method=scope["method"],
        service=service,
        now=clock.now(),
        monotonic=time.monotonic(),
        token=token_in(headers.get("authorization", "")),
        if_none_match=headers.get("if-none-match", ""),
        accept_encoding=headers.get("accept-encoding", ""),
        environment=query.get("environment", [""])[-1],
        wait=query.get("wait", [""])[-1],
    )


def is_allowed_host(host: str) -> bool:
    """Django's check of the Host header."""
    return _is_among(host, tuple(settings.ALLOWED_HOSTS))


@lru_cache(maxsize=256)
def _is_among(host: str, allowed: tuple[str, ...]) -> bool:
    domain, _port = split_domain_port(host)
    return bool(domain) and validate_host(domain, allowed)


async def snapshot_for(known: State, token: Token | None) -> Snapshot | None:
    """The snapshot to answer with; in a thread if a token must be looked up first."""
    if not known.needs_lookup(token):
        return known.snapshot
    return await asyncio.to_thread(_look_up, known, token)


def _look_up(known: State, token: Token | None) -> Snapshot | None:
    """In a pool's thread, whose connection nobody else would close."""
    try:
        return known.for_bearer(token)
    finally:
        connections.close_all()
