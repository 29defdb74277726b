"""Whether a web server answers as expected."""

import ssl
from functools import cache
from typing import Any

import httpx
from django.utils.translation import gettext as _

from apps.health.probes.network import Stopwatch, resolve
from apps.health.probes.outcomes import Outcome, Refused, fine, named
from apps.health.targets import Address, Target, is_expected, option, parse

_PHASES = {  # of httpcore's trace
    "connection.connect_tcp.complete": "connect",
    "connection.start_tls.complete": "tls",
    "http11.receive_response_headers.complete": "wait",
}


async def probe(target: Target) -> Outcome:
    """Ask once, follow nowhere, and look at the status.

    Phases in seconds: resolve, connect, tls, wait (until the headers are there).
    """
    address, watch = parse(target.kind, target.address), Stopwatch()
    place = await resolve(address.host, address.port)
    watch.lap("resolve")

    async def trace(event: str, info: dict[str, Any]) -> None:
        if phase := _PHASES.get(event):
            watch.lap(phase)

    context = _certificates(option(target, "verify_certificate"))
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=target.timeout) as client:
        request = client.build_request(
            option(target, "method"),
            _url(address, place),
            headers=_headers(address, target.secret),
            extensions={"trace": trace, "sni_hostname": address.host},
        )
        try:
            response = await client.send(request, stream=True, auth=_auth(address, target.secret))
        except httpx.HTTPError as error:
            raise Refused(named_http(error)) from error
        took = watch.seconds
        await response.aclose()
    if not is_expected(response.status_code, option(target, "expected_status")):
        raise Refused(_("answered %d") % response.status_code)
    return fine(took, http_status=response.status_code, phases=watch.phases)


def _url(address: Address, place: str) -> str:
    """To the address that was judged, whatever the name says by now."""
    host = f"[{place}]" if ":" in place else place
    return f"{address.scheme}://{host}:{address.port}{address.path}"


def _headers(address: Address, secret: str) -> dict[str, str]:
    host = f"[{address.host}]" if ":" in address.host else address.host
    own = {"Host": f"{host}:{address.port}", "User-Agent": "Holdfast-Check"}
    if address.port in {80, 443}:
        own["Host"] = host
    if secret and not address.user:
        own["Authorization"] = f"Bearer {secret}"
    return own


def _auth(address: Address, secret: str) -> httpx.BasicAuth | None:
    return httpx.BasicAuth(address.user, secret) if address.user else None


@cache
def _certificates(is_verified: bool) -> ssl.SSLContext:
    """Reading the certificates takes long enough to be felt by every other check."""
    return httpx.create_ssl_context(verify=is_verified)


def named_http(error: httpx.HTTPError) -> str:
    """What went wrong, in our words."""
    if isinstance(error, httpx.TimeoutException):
        return _("no answer in time")
    if isinstance(error, httpx.RemoteProtocolError):
        return _("the answer is not HTTP, or was cut short")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return named(cause)
        cause = cause.__cause__ or cause.__context__
    return _("no answer (%s)") % type(error).__name__
