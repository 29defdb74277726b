"""What Holdfast raises. Every instance is fresh; messages are built only when somebody reads them.

All can be pickled. None keeps the exception that led to it, which would keep its frames alive.
"""

from __future__ import annotations

from typing import Any


def _rebuild(kind: type[_Described], fields: dict[str, Any]) -> _Described:
    error = kind.__new__(kind)
    for name, value in fields.items():
        setattr(error, name, value)
    return error


class _Described(Exception):
    """An exception made of named fields instead of a finished message."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def _fields_set(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._fields}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._fields_set())

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self._fields_set().items())
        return f"{type(self).__name__}({inside})"


class Rejected(_Described):
    """A call was not made at all.

    Attributes:
        dependency: Its name.
        retry_after: Seconds after which a call may be admitted; None if nobody can tell.
    """

    __slots__ = ("dependency", "retry_after")
    _fields: tuple[str, ...] = ("dependency", "retry_after")
    reason = "rejected"

    def __init__(self, dependency: str, *, retry_after: float | None = None) -> None:
        super().__init__()
        self.dependency = dependency
        self.retry_after = retry_after

    def __str__(self) -> str:
        after = "" if self.retry_after is None else f"; try again in {self.retry_after:.3g} s"
        return f"{self.dependency}: {self._why()}{after}"

    def _why(self) -> str:
        return "the call was rejected"


class CircuitOpen(Rejected):
    """The breaker is open, or half-open with all its trial calls under way.

    Attributes:
        state: "open" or "half_open".
        forced: Whether an operator's override keeps it open.
        override_reason: The operator's words, if forced.
        last_failure: Name of the exception's class that opened it, if known.
    """

    __slots__ = ("forced", "last_failure", "override_reason", "state")
    _fields = (*Rejected._fields, "state", "forced", "override_reason", "last_failure")
    reason = "open"

    def __init__(
        self,
        dependency: str,
        *,
        retry_after: float | None = None,
        state: str = "open",
        forced: bool = False,
        override_reason: str | None = None,
        last_failure: str | None = None,
    ) -> None:
        super().__init__(dependency, retry_after=retry_after)
        self.state = state
        self.forced = forced
        self.override_reason = override_reason
        self.last_failure = last_failure

    def _why(self) -> str:
        if self.forced:
            return f"the circuit is forced open ({self.override_reason or 'no reason given'})"
        if self.state == "half_open":
            return "the circuit is half-open and its trial calls are under way"
        return f"the circuit is open (last failure: {self.last_failure or 'unknown'})"


class BulkheadFull(Rejected):
    """No place was free among the calls that may run at the same time.

    Attributes:
        cause: "full" (nobody may wait), "queue_full", "wait_timeout" or "threads" (too many
            abandoned threads still run).
        limit: Calls that may run at the same time.
    """

    __slots__ = ("cause", "limit")
    _fields = (*Rejected._fields, "cause", "limit")
    reason = "bulkhead_full"

    def __init__(
        self, dependency: str, *, cause: str, limit: int, retry_after: float | None = None
    ) -> None:
        super().__init__(dependency, retry_after=retry_after)
        self.cause = cause
        self.limit = limit

    def _why(self) -> str:
        return f"{self.limit} calls run already ({self.cause})"


class RateLimited(Rejected):
    """The call would exceed the dependency's rate limit."""

    __slots__ = ()
    reason = "rate_limited"

    def _why(self) -> str:
        return "the rate limit is reached"


class Throttled(Rejected):
    """The dependency takes less than half of what it is sent, and this call was left out.

    Attributes:
        share: Of the calls that are left out for now, 0 to 0.9.
    """

    __slots__ = ("share",)
    _fields = (*Rejected._fields, "share")
    reason = "throttled"

    def __init__(self, dependency: str, *, share: float, retry_after: float | None = None) -> None:
        super().__init__(dependency, retry_after=retry_after)
        self.share = share

    def _why(self) -> str:
        return f"{self.share:.0%} of the calls are left out, since too few are accepted"


class Degraded(Rejected):
    """A fallback flag is engaged for the dependency, and no fallback could answer.

    Attributes:
        flag: Key of the engaged flag.
        flag_reason: The operator's words.
    """

    __slots__ = ("flag", "flag_reason")
    _fields = (*Rejected._fields, "flag", "flag_reason")
    reason = "degraded"

    def __init__(
        self,
        dependency: str,
        *,
        flag: str,
        flag_reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(dependency, retry_after=retry_after)
        self.flag = flag
        self.flag_reason = flag_reason

    def _why(self) -> str:
        return f"switched off by the flag {self.flag} ({self.flag_reason or 'no reason given'})"


class ReadOnly(Rejected):
    """Writing is switched off: a read-only flag is engaged.

    Attributes:
        flag, flag_reason: The engaged flag and the operator's words.
    """

    __slots__ = ("flag", "flag_reason")
    _fields = (*Rejected._fields, "flag", "flag_reason")
    reason = "read_only"

    def __init__(
        self,
        dependency: str = "writes",
        *,
        flag: str,
        flag_reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(dependency, retry_after=retry_after)
        self.flag = flag
        self.flag_reason = flag_reason

    def _why(self) -> str:
        return f"read-only by the flag {self.flag} ({self.flag_reason or 'no reason given'})"


class CallTimeout(_Described, TimeoutError):
    """An attempt was made and took longer than it may.

    Attributes:
        dependency: Its name.
        seconds: The limit it exceeded.
    """

    _fields = ("dependency", "seconds")

    def __init__(self, dependency: str, *, seconds: float) -> None:
        super().__init__()
        self.dependency = dependency
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.dependency}: took longer than {self.seconds:.3g} s"


class DeadlineExceeded(CallTimeout):
    """The time for all attempts together, or that of an enclosing call, is used up."""

    def __str__(self) -> str:
        return f"{self.dependency}: its deadline has passed"


class Misused(TypeError):
    """The SDK was called in a way that cannot work; says nothing about any dependency."""


class BadDocument(Exception):
    """A policy document that cannot be used at all; the last good one stays.

    Attributes:
        code: bad_json, too_large, bad_envelope or unsupported_schema.
        detail: A sentence for people.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
