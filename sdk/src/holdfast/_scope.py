"""What is known around a guarded call: time left, that it is a retry, a letter tried again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast._letter import Letter


RETRY_HEADER = "Holdfast-Retry"
"""Tells the other side that this is not the first attempt, so that it does not retry in turn."""

is_asked_for = False
"""Whether anything in this process may ask how much time it has: then every guard says it.

Set when `holdfast.deadline` is imported, or a policy limits the time of a whole call.
"""


def ask() -> None:
    """Have every guard say from now on how much time is left inside."""
    global is_asked_for
    is_asked_for = True


class Scope:
    """One attempt of a guarded call, as seen from inside.

    It is over when the attempt is: a background task that was started inside keeps a copy of the
    context for good, and must not inherit a deadline that has nothing to do with it any more.

    Attributes:
        at: Monotonic end of the time it has; None for no limit.
        is_retry: Whether this or an enclosing attempt is not the first of its call: guards
            further in do not retry then, so that attempts add up instead of multiplying.
        is_over: Whether the attempt has ended. One left behind on a thread has not.
    """

    __slots__ = ("at", "is_over", "is_retry", "monotonic")

    def __init__(self, at: float | None, monotonic: Callable[[], float], *, is_retry: bool) -> None:
        self.at = at
        self.monotonic = monotonic
        self.is_retry = is_retry
        self.is_over = False

    def remaining(self) -> float | None:
        """Seconds left, never below 0; None for no limit."""
        return None if self.at is None else max(0.0, self.at - self.monotonic())


current: ContextVar[Scope | None] = ContextVar("holdfast_scope", default=None)
running: ContextVar[Letter | None] = ContextVar("holdfast_redrive", default=None)
"""The letter that is being tried again around us: guards inside need not capture it anew."""


def leave(token: Token[Scope | None]) -> None:
    """Forget the attempt that was begun with that token."""
    try:  # noqa: SIM105 - a context manager costs more than all the rest
        current.reset(token)
    except ValueError:
        pass  # a coroutine nobody waited for is closed in whatever context frees it


def active() -> Scope | None:
    """The attempt that runs around us, if one does."""
    scope = current.get()
    return None if scope is None or scope.is_over else scope


def is_retry() -> bool:
    """Whether what runs now is part of an attempt that is not the first."""
    scope = active()
    return scope is not None and scope.is_retry


@contextmanager
def within_retry(is_one: bool) -> Iterator[None]:
    """Run as part of another process's attempt; if that is a retry, guards inside do not retry."""
    if not is_one:
        yield
        return
    scope = Scope(None, time.monotonic, is_retry=True)
    token = current.set(scope)
    try:
        yield
    finally:
        scope.is_over = True
        current.reset(token)
