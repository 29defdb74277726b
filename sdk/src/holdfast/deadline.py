"""How much time the guarded call around us has left.

Ordinary functions are held to their timeout cooperatively: hand what is left to whatever takes a
timeout, such as `requests.get(url, timeout=deadline.remaining(10))`.
"""

from __future__ import annotations

from typing import overload

from holdfast._scope import active, ask

ask()


@overload
def remaining() -> float | None: ...
@overload
def remaining(default: float) -> float: ...
def remaining(default: float | None = None) -> float | None:
    """Seconds left, never below 0; `default` outside a guarded call or within an unlimited one."""
    scope = active()
    left = None if scope is None else scope.remaining()
    return default if left is None else left
