"""The table of settings as Markdown, for the manual and whoever asks on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from holdfast.spec.rows import Setting
from holdfast.spec.table import PATTERNS

COLUMNS = ("setting", "unit or type", "default", "bounds", "off", "meaning")


def table_rows(pattern: str) -> Iterator[tuple[str, ...]]:
    """Cells of each setting of a pattern, one per column; members of lists and maps follow theirs.

    Raises:
        KeyError: there is no such pattern.
    """
    for row in PATTERNS[pattern].settings.values():
        yield _cells(row, row.key, _code(row.default))
        for member in row.members:
            if row.type == "map":
                yield _cells(member, f"{row.key}.*.{member.key}", "inherited")
            else:
                default = "required" if member.key in row.required else _code(member.default)
                yield _cells(member, f"{row.key}[].{member.key}", default)


def table(pattern: str) -> str:
    """A pattern's settings as a Markdown table.

    Raises:
        KeyError: there is no such pattern.
    """
    return "\n".join(map(line, [COLUMNS, ("---",) * len(COLUMNS), *table_rows(pattern)]))


def line(cells: tuple[str, ...]) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _cells(row: Setting, name: str, default: str) -> tuple[str, ...]:
    return (
        f"`{name}`",
        row.unit or ("text" if row.type == "strings" else row.type),
        default,
        _bounds(row),
        "" if row.off is None else _code(row.off),
        row.help,
    )


def _bounds(row: Setting) -> str:
    if row.bounds:
        return row.bounds.removesuffix(f" {row.unit}")
    if row.type in ("choice", "choices"):
        return ", ".join(map(_code, row.choices))
    if row.type == "map":
        return f"per {', '.join(map(_code, row.choices))}"
    return "" if row.max_items is None else f"at most {row.max_items}"


def _code(value: Any) -> str:
    """A value as JSON has it, whole numbers without a point, texts without quotes."""
    if isinstance(value, str) and value:
        return f"`{value}`"
    if isinstance(value, list):
        return ", ".join(map(_code, value)) or "none"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value)}`" if value or value in (0, False) else "none"
