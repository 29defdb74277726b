"""What the author of a guard says, beside the policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from holdfast._classify import Rules
from holdfast._failed import Serialize
from holdfast._retry import Repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the guard's author said, beside the policy.

    Attributes:
        fallback: The function named "function" in the chain.
        rules: The author's own classes of errors, asked first.
        repeat: "policy" (`retry.idempotent` decides whether the call may be made again), "unsent"
            (only if the error proves nothing was sent) or "never". It can only be stricter.
        dead_letter: Handler of the letters that calls become; none if empty.
        serialize, idempotency_key: Make body and key of a letter from the arguments.
        is_bare: Whether a rejection is the end of the call, for all the author said.
    """

    fallback: Callable[..., Any] | None = None
    rules: Rules = ()
    repeat: Repeat = "policy"
    dead_letter: str = ""
    serialize: Serialize | None = None
    idempotency_key: Callable[..., str] | None = None

    is_bare: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_bare", self.fallback is None and not self.dead_letter)


NO_OPTIONS = Options()
