"""What the table of settings is made of: settings, patterns, and short ways to write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

SettingType = Literal[
    "bool", "int", "seconds", "share", "number", "choice", "choices", "strings", "list", "map",
    "text", "json",
]  # fmt: skip
"""int is whole; seconds, share and number are floats; choices and strings are lists; list holds
objects made of `members`; map maps one of `choices` to such an object."""

ERROR_CLASSES = ("transient", "permanent", "critical", "unknown")
FALLBACK_CAUSES = (
    *ERROR_CLASSES,
    "timeout",
    "open",
    "bulkhead_full",
    "rate_limited",
    "degraded",
)

LARGEST_INT = 2_147_483_647  # what an integer column of every database holds
DAY = 86_400.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Setting:
    """One setting of one pattern.

    Attributes:
        minimum, maximum: Inclusive bounds, in `unit`; None where the type has none.
        unit: "s", "share", "calls", "attempts", "bytes" or "" for a plain number.
        off: The explicit value that switches this setting's effect off; None if it has no off.
        choices: Allowed values of a choice, items of choices, keys of a map.
        help: What it does, in plain words, with the unit.
        aliases: Names other systems and our requirements use for the same thing.
        members: Settings of one item, for list and map; `required` says which must be present.
        max_items: Most items of a list.
    """

    key: str
    type: SettingType
    default: Any
    help: str
    pattern: str = ""
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    off: Any = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    members: tuple[Setting, ...] = ()
    required: tuple[str, ...] = ()
    max_items: int | None = None

    @property
    def path(self) -> str:
        """Full name, such as "breaker.open_seconds"."""
        return f"{self.pattern}.{self.key}"

    @property
    def bounds(self) -> str:
        """The allowed range in words, empty if there is none."""
        if self.minimum is None or self.maximum is None:
            return ""
        unit = "" if self.unit in ("", "share") else f" {self.unit}"
        return f"{self.minimum:,.10g} to {self.maximum:,.10g}{unit}"  # 10 digits: LARGEST_INT


@dataclass(frozen=True, eq=False, kw_only=True)
class Pattern:
    """One resilience pattern and its settings, by key, in the order forms show them."""

    key: str
    title: str
    help: str
    settings: Mapping[str, Setting] = field(default_factory=dict)


def switch(key: str, default: bool, help: str, **more: Any) -> Setting:
    return Setting(key=key, type="bool", default=default, help=help, **more)


def whole(key: str, default: int, low: int, high: int, help: str, **more: Any) -> Setting:
    return Setting(
        key=key, type="int", default=default, minimum=low, maximum=high, help=help, **more
    )


def seconds(key: str, default: float, low: float, high: float, help: str, **more: Any) -> Setting:
    return Setting(
        key=key, type="seconds", unit="s", default=default, minimum=low, maximum=high, help=help,
        **more,
    )  # fmt: skip


def share(key: str, default: float, low: float, help: str, **more: Any) -> Setting:
    return Setting(
        key=key, type="share", unit="share", default=default, minimum=low, maximum=1.0, help=help,
        **more,
    )  # fmt: skip


def number(key: str, default: float, low: float, high: float, help: str, **more: Any) -> Setting:
    return Setting(
        key=key, type="number", default=default, minimum=low, maximum=high, help=help, **more
    )


def choice(key: str, default: str, choices: tuple[str, ...], help: str, **more: Any) -> Setting:
    return Setting(key=key, type="choice", default=default, choices=choices, help=help, **more)


def pattern(key: str, title: str, help: str, *settings: Setting) -> Pattern:
    rows = {row.key: replace(row, pattern=key) for row in settings}
    return Pattern(key=key, title=title, help=help, settings=MappingProxyType(rows))
