"""What a service may look at: read-only faces of the state inside."""

from __future__ import annotations

from typing import Any

from holdfast._dependency import Dependency


class BreakerView:
    """A breaker, to look at."""

    __slots__ = ("_dependency",)

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency

    @property
    def state(self) -> str:
        """ "closed", "open" or "half_open": the machine's own state, overrides left aside."""
        return self._dependency.breaker.state

    @property
    def half_open_ready(self) -> bool:
        """Whether it is open and the next call will be a trial call."""
        return self._dependency.breaker.half_open_ready(self._dependency.shared.clock.monotonic())

    @property
    def override(self) -> str | None:
        """Mode of the override in force."""
        self._dependency.breaker.sweep(self._dependency.shared.clock.monotonic())
        override = self._dependency.breaker.override
        return None if override is None else override.mode


class DependencyView:
    """A dependency, to look at."""

    __slots__ = ("_dependency", "breaker")

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency
        self.breaker = BreakerView(dependency)

    @property
    def name(self) -> str:
        """Its name."""
        return self._dependency.name

    @property
    def in_flight(self) -> int:
        """Calls under way in this process."""
        return self._dependency.in_flight

    @property
    def is_degraded(self) -> bool:
        """Whether a fallback flag keeps calls away right now."""
        return self._dependency.engaged_flag(self._dependency.shared.clock.monotonic()) is not None

    def stats(self) -> dict[str, Any]:
        """Totals since the process started."""
        return self._dependency.totals()
