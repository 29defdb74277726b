"""What became of a call, for those who do not want exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from holdfast._breaker_rules import Refusal
from holdfast.errors import CircuitOpen, Rejected

T = TypeVar("T")


@dataclass(slots=True)
class Outcome(Generic[T]):
    """What became of a call, without an exception raised.

    Attributes:
        source: "call", or the kind of the fallback that answered; "none" if nothing did.
        attempts: Attempts made, those a gate refused included.
    """

    value: T | None = None
    error: Exception | None = None
    source: str = "call"
    attempts: int = 1

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    @property
    def rejection(self) -> Rejected | None:
        """Why the call was not made at all, if so."""
        return self.error if isinstance(self.error, Rejected) else None

    def unwrap(self) -> T:
        """The value; raises the error if there is none."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None only if it was the answer


class TurnedAway(Outcome[Any]):
    """Of a call that an open breaker refused; the error is made when somebody asks for it.

    Most callers look at `ok` and go on, thousands of times a second during an incident.
    """

    __slots__ = ("dependency", "left", "refusal")

    dependency: str
    left: float  # seconds
    refusal: Refusal

    value = None
    source = "none"
    attempts = 1

    @property
    def error(self) -> CircuitOpen:  # type: ignore[override]  # read only, where others have a slot
        """Why it was refused; a fresh one each time."""
        return self.refusal.error(self.dependency, self.left)

    @property
    def ok(self) -> bool:
        """No."""
        return False
