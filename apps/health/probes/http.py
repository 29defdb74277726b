"""Whether a web server answers as expected."""

import ssl
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import urljoin

import httpx
from cryptography import x509
from django.utils.translation import gettext as _

from apps.core import clock
from apps.health import rules
from apps.health.probes.body import MOST_BYTES, Conditions
from apps.health.probes.network import Stopwatch, resolve
from apps.health.probes.outcomes import Outcome, Refused, fine, named
from apps.health.targets import Address, Target, address_errors, is_expected, option, parse

_PHASES = {  # of httpcore's trace
    "connection.connect_tcp.complete": "connect",
    "connection.start_tls.complete": "tls",
    "http11.receive_response_headers.complete": "first_byte",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


async def probe(target: Target) -> Outcome:
    """Ask, follow as many redirects as it may, and look at status, certificate and body.

    Phases in seconds: resolve, connect, tls, first_byte (until the headers are there), body. Those
    of redirects are added up.
    """
    watch = Stopwatch()
    try:
        answer = await _followed(target, watch)
    except httpx.HTTPError as error:
        raise Refused(named_http(error)) from error
    if not is_expected(answer["http_status"], option(target, "expected_status")):
        raise Refused(_("answered %d") % answer["http_status"])
    if conditions := Conditions.of(target):
        body = answer.pop("body")
        conditions.check(body[:MOST_BYTES], is_whole=len(body) <= MOST_BYTES)
    found = fine(watch.seconds, phases=watch.phases, **answer)
    return _by_certificate(found, option(target, "certificate_days"))


async def _followed(target: Target, watch: Stopwatch) -> dict[str, Any]:
    """What the last answer says, `body` included if a condition needs it."""
    first = here = parse("http", target.address)
    left: int = option(target, "follow_redirects")
    while True:
        secret = target.secret if _origin(here) == _origin(first) else ""
        answer = await _ask(target, here, secret, watch)
        location = answer.pop("location")
        if not left or answer["http_status"] not in _REDIRECTS or not location:
            return answer
        left -= 1
        here = _next(here, location)


def _origin(address: Address) -> tuple[str, str, int]:
    return address.scheme, address.host, address.port


def _next(here: Address, location: str) -> Address:
    """Where a redirect leads: judged like an address, and without the user of the one before.

    Raises:
        Refused: no check may go there, or what was encrypted would no longer be.
    """
    host = f"[{here.host}]" if ":" in here.host else here.host
    url = urljoin(f"{here.scheme}://{host}:{here.port}{here.path}", location).partition("#")[0]
    if errors := address_errors("http", url, is_enabled=True):
        raise Refused(_("it redirects where no check may go: %s") % errors[0])
    there = parse("http", url)
    if here.is_encrypted and not there.is_encrypted:
        raise Refused(_("it redirects to what is not encrypted"))
    return replace(there, user=here.user if _origin(there) == _origin(here) else "")


async def _ask(target: Target, here: Address, secret: str, watch: Stopwatch) -> dict[str, Any]:
    place = await resolve(here.host, here.port)
    watch.lap("resolve")

    async def trace(event: str, info: dict[str, Any]) -> None:
        if phase := _PHASES.get(event):
            watch.lap(phase)

    context = _certificates(option(target, "verify_certificate"))
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=target.timeout) as client:
        request = client.build_request(
            option(target, "method"),
            _url(here, place),
            headers=_headers(here, secret),
            extensions={"trace": trace, "sni_hostname": here.host},
        )
        response = await client.send(request, stream=True, auth=_auth(here, secret))
        try:
            return await _said(target, response, watch)
        finally:
            await response.aclose()


async def _said(target: Target, response: httpx.Response, watch: Stopwatch) -> dict[str, Any]:
    said: dict[str, Any] = {
        "http_status": response.status_code,
        "location": response.headers.get("Location", ""),
    }
    if (days := _days_left(response)) is not None:
        said["certificate_days_left"] = days
    if Conditions.of(target):
        said["body"] = await _body(response)
        watch.lap("body")
    return said


async def _body(response: httpx.Response) -> bytes:
    """As much of the body as is read, and a byte more if there is more.

    As it is on the wire: a few bytes of a compressed answer may become any number.
    """
    if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
        raise Refused(_("its answer is compressed, which was not asked for"))
    body = bytearray()
    async for part in response.aiter_raw():
        body += part[: MOST_BYTES + 1 - len(body)]
        if len(body) > MOST_BYTES:
            break
    return bytes(body)


def _days_left(response: httpx.Response) -> float | None:
    """Days until the certificate that was shown ends, valid or not; None without one."""
    shown = response.extensions["network_stream"].get_extra_info("ssl_object")
    der = shown.getpeercert(binary_form=True) if shown is not None else None
    if not der:
        return None
    left = x509.load_der_x509_certificate(der).not_valid_after_utc - clock.now()
    return round(left.total_seconds() / 86_400, 1)


def _by_certificate(found: Outcome, days: int) -> Outcome:
    left = found.facts.get("certificate_days_left")
    if left is None or left >= days:
        return found
    text = _("its certificate ends in %(left)g days, fewer than %(days)d")
    return replace(found, mark=rules.IMPAIRED, detail=text % {"left": left, "days": days})


def _url(address: Address, place: str) -> str:
    """To the address that was judged, whatever the name says by now."""
    host = f"[{place}]" if ":" in place else place
    return f"{address.scheme}://{host}:{address.port}{address.path}"


def _headers(address: Address, secret: str) -> dict[str, str]:
    host = f"[{address.host}]" if ":" in address.host else address.host
    own = {
        "Host": f"{host}:{address.port}",
        "User-Agent": "Holdfast-Check",
        "Accept-Encoding": "identity",
    }
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
