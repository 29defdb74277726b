"""Where Holdfast is, who asks, and how patiently: all the client must know before it starts."""

import os
import re
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_TOKEN = re.compile(r"hf_[a-z0-9]{12}_[A-Za-z0-9]{43}")
_SERVICE = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,78}[a-z0-9])?")
_SELECTOR = slice(3, 15)  # the public half of a token: what the server looks it up by


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the client waits for what; seconds. The defaults are right but for tests.

    Attributes:
        poll_seconds, report_seconds: The pace until the server dictates one.
        jitter: Share by which every interval varies until the server dictates one.
        backoff_seconds, backoff_max_seconds: Wait after the first failure, and the longest.
        refused_seconds: Wait after 401, 403 or 404: the key or the service must be fixed first.
        silence_seconds: A stream silent for longer is dead.
        acknowledge_seconds: A report leaves within this time of a change worth reporting.
        acknowledge_gap_seconds: At least this long between two such reports.
        request_seconds: Longest time for one exchange other than a stream.
        close_seconds: Longest time `close` and the end of the process wait for the last report.
        adopt_seconds: Between looks for what dead processes of the service left to be sent.
        claim_wait_seconds: How long the server may wait for letters that are to be redriven.
        claim_gap_seconds: At least this long between two claims that got nothing.
        lease_seconds: How long a letter is ours before we must ask for more time; 30 to 600.
    """

    poll_seconds: float = 10.0
    report_seconds: float = 10.0
    jitter: float = 0.1
    backoff_seconds: float = 1.0
    backoff_max_seconds: float = 30.0
    refused_seconds: float = 60.0
    silence_seconds: float = 45.0
    acknowledge_seconds: float = 0.5
    acknowledge_gap_seconds: float = 1.0
    request_seconds: float = 10.0
    close_seconds: float = 1.0
    adopt_seconds: float = 30.0
    claim_wait_seconds: float = 20.0
    claim_gap_seconds: float = 1.0
    lease_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved settings of one client; `problem` says why it must work without a server."""

    url: str
    token: str = field(repr=False)
    service: str
    cache_dir: Path | None
    problem: str | None

    @property
    def selector(self) -> str:
        """The public half of the token: names it without giving it away."""
        return self.token[_SELECTOR]


def resolve(
    url: str | None,
    token: str | None,
    service: str | None,
    cache_dir: str | os.PathLike[str] | None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Fill what was not given from `HOLDFAST_*`, and say what is missing or malformed."""
    url = (url or environ.get("HOLDFAST_URL", "")).strip().rstrip("/")
    token = (token or environ.get("HOLDFAST_TOKEN", "")).strip()
    service = (service or environ.get("HOLDFAST_SERVICE", "")).strip()
    problems = (_url_problem(url), _token_problem(token), _service_problem(service))
    chosen = cache_dir or environ.get("HOLDFAST_CACHE_DIR") or default_cache_dir(environ)
    return Settings(
        url=url,
        token=token,
        service=service,
        cache_dir=Path(chosen) if chosen else None,
        problem="; ".join(filter(None, problems)) or None,
    )


def default_cache_dir(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The user's own cache directory; None where the user has no home."""
    if base := environ.get("XDG_CACHE_HOME"):
        return Path(base) / "holdfast"
    try:
        home = Path.home()
    except RuntimeError:  # no HOME and no entry in the user database: a bare container
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "holdfast"


def new_instance() -> str:
    """A name for this process that no other process has."""
    return str(uuid.uuid4())


def _url_problem(url: str) -> str | None:
    if not url:
        return "no URL (HOLDFAST_URL)"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return "the URL (HOLDFAST_URL) is malformed"
    if not usable:
        return "the URL (HOLDFAST_URL) must be http://host or https://host"
    if parts.username or parts.password or parts.query or parts.fragment:
        # Userinfo would replace the token in the Authorization header, and end up in logs.
        return "the URL (HOLDFAST_URL) must carry no user, password, query or fragment"
    return None


def _token_problem(token: str) -> str | None:
    if not token:
        return "no token (HOLDFAST_TOKEN)"
    if not _TOKEN.fullmatch(token):
        return "the token (HOLDFAST_TOKEN) is not of the form hf_…_…"
    return None


def _service_problem(service: str) -> str | None:
    if not service:
        return "no service name (HOLDFAST_SERVICE)"
    if not _SERVICE.fullmatch(service):
        # The server knows no such name: it would refuse every report.
        return (
            "the service name (HOLDFAST_SERVICE) must be 1-80 lower-case letters, digits, dots, "
            "dashes or underscores"
        )
    return None
