"""The one answer to "what should this service do?", for every door that is asked it."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate
from functools import lru_cache

import msgspec
import structlog
from django.utils.translation import gettext as _

from apps.accounts.rules import is_secret, split_token
from apps.core import problems
from apps.core.pace import Pace
from apps.core.replies import Headers, Reply
from apps.delivery.rules import Document
from apps.delivery.snapshot import Key, Place, Snapshot
from apps.fleet.models import SLUG

log = structlog.get_logger(__name__)

SCOPE = "policies:read"
STALE_AFTER = 5.0  # seconds without the database before answers say so
TRUSTED_FOR = 24 * 3600.0  # seconds for which tokens are believed without the database
START_RETRY_SECONDS = 2
LONGEST_WAIT = 60  # seconds
_WAIT = re.compile(r"[0-9]|[1-5][0-9]|60")
_WEIGHT = re.compile(r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*")
_ETAGS = re.compile(r'(?:W/)?("[^"]*")')


Token = tuple[str, str]
"""Selector and secret."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request decides its answer. Header values are empty where there was none.

    `monotonic` is this process's monotonic clock, in seconds, when the request came.
    """

    method: str
    service: str
    now: datetime
    monotonic: float
    token: Token | None = field(default=None, repr=False)
    if_none_match: str = ""
    accept_encoding: str = ""
    environment: str = ""  # ?environment=, which a token does not need
    wait: str = ""  # ?wait=, seconds for which the answer may be held back while it is 304


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may read this service's document."""

    key: Key
    snapshot: Snapshot
    document: Document


def answer(asked: Asked, snapshot: Snapshot | None) -> Reply:
    """Status, headers and body for a request of a document; touches nothing but its arguments.

    `snapshot` None means that this process has not read its database yet.
    """
    if asked.method not in ("GET", "HEAD"):
        return refusal(405, "method_not_allowed", _("Use GET or HEAD."), Allow="GET, HEAD")
    admitted = bad_wait() if wait_of(asked) is None else admit(asked, snapshot)
    if not isinstance(admitted, Admitted):
        return without_body(admitted) if asked.method == "HEAD" else admitted
    document, snapshot = admitted.document, admitted.snapshot
    age, now = int(asked.monotonic - snapshot.reached_at), int(asked.now.timestamp())
    if _is_known(asked.if_none_match, document.etag):
        return 304, _headers(document.etag, snapshot.pace, now, age, None, ""), b""
    body, coding = _body(document, asked.accept_encoding)
    headers = _headers(document.etag, snapshot.pace, now, age, len(body), coding)
    return 200, headers, b"" if asked.method == "HEAD" else body


def wait_of(asked: Asked) -> float | None:
    """Seconds for which the answer may be held back while it is 304; None if that is no number."""
    if not asked.wait:
        return 0.0
    return float(asked.wait) if _WAIT.fullmatch(asked.wait) else None


def bad_wait() -> Reply:
    text = _("wait must be a whole number of seconds from 0 to %(most)d.")
    return refusal(400, "bad_wait", text % {"most": LONGEST_WAIT})


def admit(asked: Asked, snapshot: Snapshot | None) -> Admitted | Reply:
    """The document a request may have, or the refusal it gets."""
    if snapshot is None or asked.monotonic - snapshot.reached_at > TRUSTED_FOR:
        return starting()
    key = key_of(asked.token, snapshot, asked.now)
    if key is None:
        return refusal(
            401,
            "authentication_failed",
            _("The token is missing, unknown, expired or revoked."),
            **{"WWW-Authenticate": 'Bearer realm="holdfast"'},
        )
    if SCOPE not in key.scopes:
        return refusal(403, "scope_missing", _("This token may not read policies."))
    place = snapshot.places.get(key.environment_id)
    if place is None or not _is_visible(asked, key, place):
        return refusal(404, "not_found", _("There is no such service in this environment."))
    return Admitted(key, snapshot, place.document(asked.service))


def log_denial(asked: Asked, status: int) -> None:
    """Log a 403, in place of an entry in the audit log: clients ask again every few seconds."""
    if status == 403:
        selector = asked.token[0] if asked.token else None
        log.warning("denial.not_audited", token=selector, service=asked.service)


def token_in(authorization: str) -> Token | None:
    """The token in an Authorization header; None if there is none of our form."""
    scheme, _space, text = authorization.partition(" ")
    return split_token(text.strip()) if scheme.lower() == "bearer" else None


def starting() -> Reply:
    """Not yet: never a 401, which clients would take for an answer about their token."""
    return refusal(
        503,
        "starting",
        _("The server has not read its policies yet."),
        **{"Retry-After": str(START_RETRY_SECONDS)},
    )


def refusal(status: int, code: str, detail: str, **headers: str) -> Reply:
    """An RFC 9457 answer."""
    body = msgspec.json.encode(problems.document(status, code, detail))
    common = {
        "Content-Type": problems.CONTENT_TYPE,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
    }
    return status, Headers(common | headers), body


def without_body(answered: Reply) -> Reply:
    """What HEAD gets: the headers GET would have had, Content-Length included."""
    return answered[0], answered[1], b""


def key_of(token: Token | None, snapshot: Snapshot, now: datetime) -> Key | None:
    """Whose live token it is; None if the snapshot has none such."""
    key = snapshot.keys.get(token[0]) if token else None
    if token is None or key is None:
        return None
    return key if is_secret(token[1], key.verifier) and key.is_live(now) else None


def _is_visible(asked: Asked, key: Key, place: Place) -> bool:
    if asked.environment not in ("", place.origin.environment):
        return False
    if key.service is not None:
        return asked.service == key.service
    return SLUG.fullmatch(asked.service) is not None


@lru_cache(maxsize=1_024)  # of the clients that ask for one document within one second
def _headers(etag: str, pace: Pace, now: int, age: int, length: int | None, coding: str) -> Headers:
    """Of a document of `length` bytes, None for 304; `age` is the database's, in seconds.

    For reading only: everybody gets the same.
    """
    headers = Headers(
        {
            "Date": formatdate(now, usegmt=True),
            "Holdfast-Poll-Seconds": f"{pace.poll_seconds:g}",
            "Holdfast-Report-Seconds": f"{pace.report_seconds:g}",
            "Holdfast-Jitter": f"{pace.jitter:g}",
            "Cache-Control": "private, no-cache",
            "Vary": "Authorization, Accept-Encoding",
            "ETag": etag,
        }
    )
    if age >= STALE_AFTER:
        headers["Policy-Stale"] = f"{age}"
    if length is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(length)}
    if coding:
        headers["Content-Encoding"] = coding
    return headers


def _is_known(if_none_match: str, etag: str) -> bool:
    """Whether the client says it has this; weak comparison, as RFC 9110 13.1.2 asks."""
    if if_none_match == etag:
        return True
    return if_none_match.strip() == "*" or etag in _ETAGS.findall(if_none_match)


def _body(document: Document, accept_encoding: str) -> tuple[bytes, str]:
    """What is sent of a document, and its content coding."""
    if accept_encoding and document.compressed is not None and _takes_gzip(accept_encoding):
        return document.compressed, "gzip"
    return document.body, ""


@lru_cache(maxsize=256)
def _takes_gzip(accept_encoding: str) -> bool:
    """RFC 9110 12.5.3: named, or covered by `*`, and not with q=0; naming it settles it."""
    accepted = {}
    for offer in accept_encoding.lower().split(","):
        coding, _semicolon, parameters = offer.partition(";")
        weight = _WEIGHT.fullmatch(parameters)
        accepted[coding.strip()] = weight is None or float(weight.group(1)) > 0
    return accepted.get("gzip", accepted.get("*", False))
