"""A guarded call that failed for good, and the dead letter it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast._classify import is_timeout
from holdfast._letter import Capture, Limits, Unserialisable
from holdfast._retry import StopReason
from holdfast.errors import Rejected

if TYPE_CHECKING:
    from holdfast._plan import DeadLetterRules

Serialize = Callable[..., Any]
"""Makes the body of a letter from the arguments of the call."""

_EXHAUSTED = frozenset(
    {
        StopReason.ATTEMPTS_EXHAUSTED,
        StopReason.BUDGET_EXHAUSTED,
        StopReason.DEADLINE,
        StopReason.NOT_IDEMPOTENT,
    }
)
_REASONS = {"open": "breaker_open", "bulkhead_full": "bulkhead_full", "degraded": "degraded"}


class FailedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call handed over to become a dead letter.

    Attributes:
        handler: Name of the handler that would make the call again.
        attempts: Attempts made, those a gate refused included.
        first_failed_at: UTC timestamp.
    """

    dependency: str
    handler: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    error: Exception
    reason: str
    attempts: int
    first_failed_at: float | None
    rules: DeadLetterRules
    serialize: Serialize | None = None
    idempotency_key: Callable[..., str] | None = None

    @property
    def limits(self) -> Limits:
        """What of the body may leave the process."""
        return Limits(max_body_bytes=self.rules.max_body_bytes, redact=self.rules.redact)

    def capture(self, failed_at: float) -> Capture:
        """What is to be kept.

        Raises:
            Unserialisable: a function of the guard's author raised.
        """
        try:
            body = self._body()
            key = self.idempotency_key
            idempotency_key = None if key is None else str(key(*self.args, **self.kwargs))
        except Exception as problem:  # noqa: BLE001 - the call's own error is what its caller gets
            raise Unserialisable(f"{type(problem).__name__}: {problem}") from None
        return Capture(
            handler=self.handler,
            body=body,
            reason=self.reason,
            error=self.error,
            dependency=self.dependency,
            attempts=self.attempts,
            failed_at=failed_at,
            first_failed_at=self.first_failed_at,
            idempotency_key=idempotency_key,
        )

    def _body(self) -> Any:
        if self.serialize is not None:
            return self.serialize(*self.args, **self.kwargs)
        return {"args": self.args, "kwargs": self.kwargs}


Sink = Callable[[FailedCall], bool]
"""Takes a failed call over for good; False if it could not. Must not block."""


def is_exhausted(error: Exception, klass: str, stop: StopReason | None, attempts: int) -> bool:
    """Whether a call was tried as often as it may be; `stop` is None where retries are off."""
    if isinstance(error, Rejected):
        return attempts > 1  # tried, and then kept away from trying again
    if stop is None:
        return klass in ("transient", "unknown")
    return stop in _EXHAUSTED


def reason_of(error: Exception, *, exhausted: bool) -> str:
    """Why it is a dead letter, in the words of the contract."""
    if isinstance(error, Rejected):
        return _REASONS.get(error.reason, "rejected")
    if is_timeout(error):
        return "timeout"
    return "retries_exhausted" if exhausted else "rejected"
