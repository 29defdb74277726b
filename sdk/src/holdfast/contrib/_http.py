"""What the integrations of HTTP clients have in common: names, what may be repeated, time left."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from holdfast import deadline
from holdfast._options import Options
from holdfast._outcome import Outcome
from holdfast._retry import Repeat
from holdfast.client import Holdfast

FALLBACK_HEADER = "Holdfast-Fallback"
FIRST_ERROR = 400

Dependency = str | Mapping[str, str] | None
"""One name for every host; host → name; or None: each host by its own name."""

Others = Literal["unguarded", "by_host"]
"""What becomes of hosts that a mapping does not name."""

_ODD = re.compile(r"[^a-z0-9._-]+")  # of IPv6 addresses
_LONGEST_NAME = 80
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110, 9.2.2


class CallSpan(Protocol):
    """What a tracing client makes of each call."""

    def tell(self, outcome: Outcome[Any]) -> Outcome[Any]: ...
    def headers(self) -> dict[str, str]: ...


@runtime_checkable
class Tracing(Protocol):
    """A client that traces calls, as that of `holdfast.contrib.opentelemetry`."""

    def call_span(self, dependency: str) -> AbstractContextManager[CallSpan]: ...


class _NoSpan:
    """What stands for a span where nothing is traced."""

    def tell(self, outcome: Outcome[Any]) -> Outcome[Any]:
        return outcome

    def headers(self) -> dict[str, str]:
        return {}


_NO_SPAN = _NoSpan()


def span_of(client: Holdfast, name: str) -> AbstractContextManager[CallSpan]:
    """The span around one call, if the client makes any."""
    return client.call_span(name) if isinstance(client, Tracing) else nullcontext(_NO_SPAN)


def name_of(dependency: Dependency, host: str, others: Others = "unguarded") -> str | None:
    """The dependency a host is; None if it is not guarded."""
    if isinstance(dependency, str):
        return dependency
    if dependency is not None and (host in dependency or others == "unguarded"):
        return dependency.get(host)
    return _ODD.sub("-", host.lower()).strip("-._")[:_LONGEST_NAME] or None


def checked(others: Others) -> Others:
    """The word for other hosts; raises ValueError if it is none."""
    if others not in get_args(Others):
        raise ValueError(f"others: use {' or '.join(get_args(Others))}, not {others!r}")
    return others


def options_of(
    method: str, *, has_key: bool, is_replayable: bool, fallback: Callable[..., Any] | None
) -> Options:
    """How a request may be handled, by what HTTP says of it.

    Args:
        has_key: Whether it carries an `Idempotency-Key`.
        is_replayable: Whether its body can be sent again.
    """
    repeat: Repeat = "policy" if method.upper() in _REPEATABLE or has_key else "unsent"
    return Options(fallback=fallback, repeat=repeat if is_replayable else "never")


def within_deadline(seconds: float | None) -> float | None:
    """A client's own limit, or what is left of the guarded call if that is less."""
    left = deadline.remaining()
    if left is None:
        return seconds
    return left if seconds is None else min(seconds, left)
