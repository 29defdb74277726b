"""Holdfast: circuit breakers, retries, timeouts, bulkheads and fallbacks decided in one place.

Importing this package starts nothing; the HTTP client is imported on first use of `Holdfast`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from holdfast.errors import (
    BulkheadFull,
    CallTimeout,
    CircuitOpen,
    DeadlineExceeded,
    Degraded,
    RateLimited,
    ReadOnly,
    Rejected,
    Throttled,
)

if TYPE_CHECKING:
    from holdfast import deadline
    from holdfast._letter import Letter
    from holdfast.client import Holdfast

__version__ = "0.1.0"

__all__ = [
    "BulkheadFull",
    "CallTimeout",
    "CircuitOpen",
    "DeadlineExceeded",
    "Degraded",
    "Holdfast",
    "Letter",
    "RateLimited",
    "ReadOnly",
    "Rejected",
    "Throttled",
    "__version__",
    "deadline",
]


def __getattr__(name: str) -> Any:
    if name == "Letter":
        from holdfast._letter import Letter

        return Letter
    if name == "Holdfast":
        # Here and not above: `import holdfast.spec` must not pull in an HTTP client.
        from holdfast.client import Holdfast

        return Holdfast
    if name == "deadline":
        # Whoever takes it asks for it: only then do guards spend time on saying what is left.
        return import_module("holdfast.deadline")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
