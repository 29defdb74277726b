"""Answers in place of a dependency: a value, a function, the last good result, or the queue.

The chain is tried in its order. If nothing answers, the caller gets the original error, with a
note of what each link said.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast._classify import is_timeout
from holdfast.errors import CallTimeout, Rejected

MOST_CACHED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One answer of a chain; members as `holdfast.spec` has them."""

    kind: str
    value: Any = None
    name: str = ""
    max_age_seconds: float = 300.0
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackRules:
    """Effective fallback settings.

    Attributes:
        chain: None if no level set one: then a function given to the guard answers alone.
            An empty one is off.
        caches: Whether good results must be kept for later.
    """

    chain: tuple[Link, ...] | None
    on: frozenset[str]
    max_concurrent: int
    caches: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any], *, is_chain_set: bool) -> FallbackRules:
        """Rules from effective settings."""
        chain = tuple(Link(**item) for item in settings["chain"])
        return cls(
            chain=chain if is_chain_set else None,
            on=frozenset(settings["on"]),
            max_concurrent=settings["max_concurrent"],
            caches=is_chain_set and any(link.kind == "cached" for link in chain),
        )

    def links_for(
        self, causes: frozenset[str], *, has_function: bool, whatever: bool = False
    ) -> tuple[Link, ...]:
        """The chain that answers for these causes, or `whatever` the cause; empty if none does."""
        if not whatever and not causes & self.on:
            return ()
        if self.chain is None:
            return (Link(kind="function"),) if has_function else ()
        return self.chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for: the guarded function and its arguments."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class NoAnswer(Exception):
    """A link of the chain has nothing to say; its text says why."""


def causes_of(error: Exception, klass: str) -> frozenset[str]:
    """Names under which `fallback.on` may list this error."""
    if isinstance(error, Rejected):
        return frozenset({_CAUSES.get(error.reason, error.reason)})
    if isinstance(error, CallTimeout):
        return frozenset({"timeout"})
    return frozenset({klass, "timeout"}) if is_timeout(error) else frozenset({klass})


_CAUSES = {"throttled": "rate_limited"}  # both say: not now, and not so much


class Fallbacks:
    """What the fallbacks of one dependency keep: cached results, and how many run. Thread-safe."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._running = 0
        self._results: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()

    def keep(self, rules: FallbackRules, request: Request, value: Any, now: float) -> None:
        """Keep a good result for every cached link of the chain."""
        for link in rules.chain or ():
            key = _key_of(link, request) if link.kind == "cached" else None
            if key is None:
                continue
            with self._lock:
                self._results[key] = (value, now)
                self._results.move_to_end(key)
                if len(self._results) > MOST_CACHED:
                    self._results.popitem(last=False)

    def look_up(self, link: Link, request: Request, now: float) -> Any:
        """The answer of a link of kind value or cached.

        Raises:
            NoAnswer: it has none.
        """
        if link.kind == "value":
            return link.value
        return self._cached(link, request, now)

    def enter(self, rules: FallbackRules) -> None:
        """Take a place for a fallback function.

        Raises:
            NoAnswer: too many run already.
        """
        with self._lock:
            if self._running >= rules.max_concurrent:
                raise NoAnswer("too many fallbacks run already")
            self._running += 1

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self._running -= 1

    def reset_after_fork(self) -> None:
        """Give up a lock that somebody in the parent may hold."""
        self._lock = threading.Lock()

    def successor(self) -> Fallbacks:
        """What a child goes on with: the same results, and no function that runs."""
        successor = Fallbacks(self.name)
        successor._results = self._results
        return successor

    def _cached(self, link: Link, request: Request, now: float) -> Any:
        key = _key_of(link, request)
        with self._lock:
            kept = self._results.get(key)
        if kept is None or now - kept[1] > link.max_age_seconds:
            raise NoAnswer("no result that is fresh enough is kept")
        return kept[0]


def _key_of(link: Link, request: Request) -> Hashable:
    """Key of a cached result; None if the arguments cannot be one."""
    if link.key:
        return link.key
    key = (request.function, request.args, tuple(sorted(request.kwargs.items())))
    try:
        hash(key)
    except TypeError:
        return None
    return key
