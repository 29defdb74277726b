"""When to try again, and after how long. Pure decisions: sleeping is the pipeline's.

Rules are shared by all calls and hold no state of a call; each call has its own `Attempts`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Literal

from holdfast._classify import is_unsent
from holdfast._scope import active
from holdfast.errors import CircuitOpen, DeadlineExceeded, Rejected

UNKNOWN_ATTEMPTS = 2  # an error nobody classified is retried once at most
DECORRELATED_GROWTH = 3.0


Repeat = Literal["policy", "unsent", "never"]
"""Whether a call may be made again: as the policy says, if nothing was sent, or not at all."""


class StopReason(StrEnum):
    """Why no further attempt is made."""

    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    NOT_RETRYABLE = "not_retryable"
    NOT_IDEMPOTENT = "not_idempotent"
    REJECTED = "rejected"
    BUDGET_EXHAUSTED = "budget_exhausted"
    DEADLINE = "deadline"
    NESTED = "nested"


_NEVER_MEANT = (StopReason.NOT_RETRYABLE, StopReason.REJECTED, StopReason.NOT_IDEMPOTENT)
"""Reasons that cost no token: the failure was none that retries are meant for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRules:
    """How errors of one class are retried.

    Attributes:
        delays: Wait before each retry in seconds, before jitter, clamped already; computed once,
            so that no exponent can overflow during an incident.
    """

    retry: bool
    attempts: int
    base_seconds: float
    max_seconds: float
    delays: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRules:
    """Effective retry settings (`holdfast.spec`), with a table of waits per error class."""

    backoff: str
    multiplier: float
    min_seconds: float
    jitter: str
    jitter_factor: float
    retry_after_max_seconds: float
    budget_tokens: float
    budget_refill: float
    idempotent: bool
    when_open: str
    classes: Mapping[str, ClassRules]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> RetryRules | None:
        """Rules from effective settings; None if nothing is ever retried."""
        if not settings["enabled"]:
            return None
        names = ("transient", "permanent", "critical", "unknown")
        classes = {name: _class_rules(name, settings) for name in names}
        kept = [name for name in cls.__slots__ if name != "classes"]
        return cls(classes=classes, **{name: settings[name] for name in kept})

    def delay(self, klass: str, retry: int, previous: float, rand: Callable[[], float]) -> float:
        """Seconds before retry number `retry`, from 1; `previous` is the last wait or 0."""
        rules = self.classes[klass]
        if self.backoff == "random":
            low = min(self.min_seconds, rules.max_seconds)
            return low + rand() * (rules.max_seconds - low)
        if self.backoff == "decorrelated":
            growth = max(self.multiplier, DECORRELATED_GROWTH)
            high = max((previous or rules.base_seconds) * growth, rules.base_seconds)
            wait = rules.base_seconds + rand() * (high - rules.base_seconds)
            return max(self.min_seconds, min(wait, rules.max_seconds))
        wait = rules.delays[min(retry, len(rules.delays)) - 1]
        return max(self.min_seconds, self._spread(wait, rand))

    def _spread(self, wait: float, rand: Callable[[], float]) -> float:
        if self.jitter == "full":
            return wait * rand()
        if self.jitter == "equal":
            return wait / 2 + wait / 2 * rand()
        if self.jitter == "factor":
            return wait * (1 + self.jitter_factor * (2 * rand() - 1))
        return wait


def _class_rules(name: str, settings: Mapping[str, Any]) -> ClassRules:
    own = settings["per_class"].get(name, {})
    asked = own.get("attempts", settings["attempts"])
    attempts = (
        min(asked, UNKNOWN_ATTEMPTS) if name == "unknown" and "attempts" not in own else asked
    )
    retried = own.get("retry", name in ("transient", "unknown") or "attempts" in own)
    base = own.get("base_seconds", settings["base_seconds"])
    longest = own.get("max_seconds", settings["max_seconds"])
    delays = tuple(
        min(base * _growth(settings["backoff"], settings["multiplier"], retry), longest)
        for retry in range(1, max(attempts, 2))
    )
    return ClassRules(
        retry=retried,
        attempts=attempts,
        base_seconds=base,
        max_seconds=longest,
        delays=delays,
    )


def _growth(backoff: str, multiplier: float, retry: int) -> float:
    if backoff == "linear":
        return float(retry)
    return float(multiplier ** (retry - 1)) if backoff == "exponential" else 1.0


class Budget:
    """Tokens that calls to one dependency share; retries stop when half of them are gone.

    A first attempt never needs a token. Safe for threads.

    Source: gRPC proposal A6, "Throttling Retry Attempts and Hedged RPCs".
    """

    __slots__ = ("_lock", "_refill", "_size", "_tokens", "is_spent")

    def __init__(self, size: float, refill: float) -> None:
        self._size, self._refill, self._tokens = size, refill, size
        self.is_spent = False  # any of it, so that successes count
        self._lock = threading.Lock()

    @property
    def tokens(self) -> float:
        """What is left."""
        return self._tokens

    def configure(self, size: float, refill: float) -> None:
        """Follow a new size, keeping the share that is left."""
        with self._lock:
            share = self._tokens / self._size if self._size else 1.0
            self._size, self._refill, self._tokens = size, refill, size * share
            self.is_spent = self._tokens < size

    def succeeded(self) -> None:
        """Give back what a successful attempt earns."""
        if self.is_spent:
            with self._lock:
                self._tokens = min(self._size, self._tokens + self._refill)
                self.is_spent = self._tokens < self._size

    def failed(self) -> bool:
        """Pay for a failure that could be retried; False if there is not enough left to retry."""
        if not self._size:
            return True
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1)
            self.is_spent = True
            return self._tokens > self._size / 2

    def take(self) -> bool:
        """Pay for a second copy; False, and nothing paid, if that would leave half or less."""
        if not self._size:
            return True
        with self._lock:
            if self._tokens - 1 <= self._size / 2:
                return False
            self._tokens -= 1
            self.is_spent = True
            return True

    def put_back(self) -> None:
        """Give back what was paid for a second copy that was not sent."""
        with self._lock:
            self._tokens = min(self._size, self._tokens + 1)
            self.is_spent = self._tokens < self._size

    def reset_after_fork(self) -> None:
        """A child starts with a lock of its own."""
        self._lock = threading.Lock()


class Attempts:
    """The retry state of one call."""

    __slots__ = ("_repeat", "_rules", "last_wait", "made")

    def __init__(self, rules: RetryRules, repeat: Repeat = "policy") -> None:
        self._rules = rules
        self._repeat = repeat
        self.made = 0
        self.last_wait = 0.0

    def next_wait(
        self,
        error: Exception,
        klass: str,
        *,
        budget: Budget,
        remaining: float | None,
        rand: Callable[[], float],
        wall: Callable[[], float],
    ) -> float | StopReason:
        """Seconds to wait before the next attempt, or why there is none.

        Args:
            remaining: Seconds until the deadline; the wait never reaches it. None: no deadline.
        """
        self.made += 1
        reason = self._stop_by_error(error, klass)
        if reason in _NEVER_MEANT:
            return reason
        affordable = isinstance(error, Rejected) or budget.failed()
        if reason is not None:
            return reason
        if not affordable:
            return StopReason.BUDGET_EXHAUSTED
        wait = self._wait(error, klass, rand, wall)
        if remaining is not None and wait >= remaining:
            return StopReason.DEADLINE
        self.last_wait = wait
        return wait

    def _stop_by_error(self, error: Exception, klass: str) -> StopReason | None:
        rules = self._rules
        waits_for_circuit = isinstance(error, CircuitOpen) and rules.when_open == "wait"
        if klass not in rules.classes and not waits_for_circuit:
            return StopReason.REJECTED if klass == "rejected" else StopReason.NOT_RETRYABLE
        of_class = rules.classes["transient" if waits_for_circuit else klass]
        if not of_class.retry:
            return StopReason.NOT_RETRYABLE
        if isinstance(error, DeadlineExceeded):
            return StopReason.DEADLINE
        if self.made >= of_class.attempts:
            return StopReason.ATTEMPTS_EXHAUSTED
        repeatable = is_repeatable(error, self._repeat, is_idempotent=rules.idempotent)
        if not (waits_for_circuit or repeatable):
            return StopReason.NOT_IDEMPOTENT
        scope = active()
        is_nested = scope is not None and scope.is_retry and not waits_for_circuit
        return StopReason.NESTED if is_nested else None

    def _wait(
        self,
        error: Exception,
        klass: str,
        rand: Callable[[], float],
        wall: Callable[[], float],
    ) -> float:
        if isinstance(error, CircuitOpen):
            return math.inf if error.retry_after is None else error.retry_after
        wait = self._rules.delay(klass, self.made, self.last_wait, rand)
        asked = retry_after(error, wall)
        return wait if asked is None else max(wait, min(asked, self._rules.retry_after_max_seconds))


def is_repeatable(error: Exception, repeat: Repeat, *, is_idempotent: bool) -> bool:
    """Whether the call that raised this error may be made again without harm."""
    if repeat == "never":
        return False
    return (is_idempotent and repeat == "policy") or is_unsent(error)


def retry_after(error: Exception, wall: Callable[[], float]) -> float | None:
    """Seconds an HTTP answer asks us to wait, from its Retry-After header; None if it does not.

    Source: RFC 9110, section 10.2.3.
    """
    headers = getattr(getattr(error, "response", None), "headers", None)
    get = getattr(headers, "get", None)
    text = get("Retry-After") if callable(get) else None
    if not isinstance(text, str):
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = _until(text, wall)
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def _until(http_date: str, wall: Callable[[], float]) -> float:
    try:
        return parsedate_to_datetime(http_date).timestamp() - wall()
    except (TypeError, ValueError, OverflowError):
        return math.nan
