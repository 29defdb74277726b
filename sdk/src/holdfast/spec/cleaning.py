"""Checks of values against the table: types, bounds, choices, items, unknown names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.spec.rows import Setting
from holdfast.spec.table import PATTERNS

LONGEST_TEXT = 500
LARGEST_JSON_NUMBER = 2**63
DEEPEST_JSON = 32
MOST_JSON_NODES = 10_000
_ORDERED = {  # pairs of settings of which the first must not be above the second
    "breaker": (("open_seconds", "open_max_seconds"),),
    "retry": (("min_seconds", "max_seconds"),),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a value.

    Attributes:
        path: Where, from the pattern on: "breaker.open_seconds", "fallback.chain.0.kind".
        code: unknown_setting, missing, wrong_type, out_of_bounds, unknown_choice, too_many
            or inconsistent.
        detail: A sentence for people. It never repeats the value, which may be a secret or huge.
    """

    path: str
    code: str
    detail: str

    @property
    def pattern(self) -> str:
        """First part of the path: the pattern."""
        return self.path.partition(".")[0]

    @property
    def key(self) -> str:
        """Second part of the path: the setting, as forms and serializers name it."""
        return self.path.partition(".")[2].partition(".")[0]


class Refused(Exception):
    """A value was refused; `problems` say why. Stays inside this package."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__()
        self.problems = tuple(problems)


def clean_pattern(
    pattern: str, values: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """The valid ones of some settings of a pattern, as the SDK uses them, and what is wrong.

    Two settings that contradict each other are a problem only if both are present
    (`check_effective` judges them with what is inherited). Only settings that are present come
    back; whole floats become ints and ints become floats as
    the setting's type asks.

    Raises:
        KeyError: there is no such pattern.
    """
    cleaned, problems = _clean_members(pattern, PATTERNS[pattern].settings, values)
    for low, high in _ORDERED.get(pattern, ()):
        if low in cleaned and high in cleaned and cleaned[low] > cleaned[high]:
            detail = f"must be at least {low}, which is {cleaned[low]:g}"
            problems += (Problem(f"{pattern}.{high}", "inconsistent", detail),)
            del cleaned[high]
    return cleaned, problems


def drop_unknown(pattern: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings this version knows, also within lists and maps: newer servers may send more."""
    return _known(PATTERNS[pattern].settings, values)


def _known(rows: Mapping[str, Setting], values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _known_within(rows[key], value) for key, value in values.items() if key in rows}


def _known_within(row: Setting, value: Any) -> Any:
    members = {member.key: member for member in row.members}
    if row.type == "list" and isinstance(value, list):
        return [_known(members, item) if isinstance(item, Mapping) else item for item in value]
    if row.type == "map" and isinstance(value, Mapping):
        return {
            key: _known(members, item) if isinstance(item, Mapping) else item
            for key, item in value.items()
        }
    return value


def clean_item(row: Setting, value: Any, path: str) -> Any:
    """A value of one setting, as the SDK uses it.

    Raises:
        Refused: with every problem found, each path starting with `path`.
    """
    return _CLEANERS[row.type](row, value, path)


def check_json(value: Any, path: str) -> None:
    """Refuse what is not plain JSON: odd types, NaN, huge numbers, NUL, depth, sheer number.

    Raises:
        Refused: with the first problem found.
    """
    stack: list[tuple[Any, int]] = [(value, 0)]
    seen = 0
    while stack:
        node, depth = stack.pop()
        seen += 1
        if depth > DEEPEST_JSON or seen > MOST_JSON_NODES:
            raise _refused(path, "out_of_bounds", "is nested too deeply or has too many parts")
        if isinstance(node, Mapping):
            stack.extend((part, depth + 1) for pair in node.items() for part in pair)
        elif isinstance(node, list | tuple):
            stack.extend((part, depth + 1) for part in node)
        else:
            _check_json_leaf(node, path)


def _check_json_leaf(node: Any, path: str) -> None:
    if isinstance(node, str):
        if "\0" in node:
            raise _refused(path, "wrong_type", "must not contain NUL")
    elif isinstance(node, float):
        if not math.isfinite(node):
            raise _refused(path, "wrong_type", "must not contain NaN or infinity")
    elif isinstance(node, int):
        if abs(node) >= LARGEST_JSON_NUMBER:
            raise _refused(path, "out_of_bounds", "contains a number beyond 64 bits")
    elif node is not None:
        raise _refused(path, "wrong_type", "must be plain JSON")


def _refused(path: str, code: str, detail: str) -> Refused:
    return Refused([Problem(path, code, detail)])


def _clean_members(
    path: str, rows: Mapping[str, Setting], values: Mapping[Any, Any]
) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    cleaned: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in values.items():
        row = rows.get(key) if isinstance(key, str) else None
        if row is None:
            name = key if isinstance(key, str) and len(key) <= LONGEST_TEXT else "(too long)"
            detail = f"there is no setting of this name; known are {', '.join(rows)}"
            problems.append(Problem(f"{path}.{name}", "unknown_setting", detail))
            continue
        try:
            cleaned[key] = clean_item(row, value, f"{path}.{key}")
        except Refused as refused:
            problems.extend(refused.problems)
    return cleaned, tuple(problems)


def _clean_bool(row: Setting, value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _refused(path, "wrong_type", "must be true or false")
    return value


def _clean_int(row: Setting, value: Any, path: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refused(path, "wrong_type", f"must be a whole number, {row.bounds}")
    _check_bounds(row, value, path)
    return value


def _clean_float(row: Setting, value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(path, "wrong_type", f"must be a number, {row.bounds}")
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(path, "out_of_bounds", f"must be {row.bounds}")
    _check_bounds(row, value, path)
    return float(value)


def _check_bounds(row: Setting, value: float, path: str) -> None:
    # Exact even for integers that no float can hold, which is why it comes before float().
    if row.minimum is not None and value < row.minimum:
        raise _refused(path, "out_of_bounds", f"must be {row.bounds}")
    if row.maximum is not None and value > row.maximum:
        raise _refused(path, "out_of_bounds", f"must be {row.bounds}")


def _clean_choice(row: Setting, value: Any, path: str) -> str:
    if not isinstance(value, str) or value not in row.choices:
        raise _refused(path, "unknown_choice", f"must be one of {', '.join(row.choices)}")
    return value


def _clean_text(row: Setting, value: Any, path: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise _refused(path, "wrong_type", "must be text without NUL")
    if len(value) > LONGEST_TEXT:
        raise _refused(path, "out_of_bounds", f"must be at most {LONGEST_TEXT} characters")
    return value


def _clean_json(row: Setting, value: Any, path: str) -> Any:
    check_json(value, path)
    return value


def _clean_each(
    row: Setting, value: Any, path: str, clean: Callable[[Setting, Any, str], Any]
) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _refused(path, "wrong_type", "must be a list")
    if row.max_items is not None and len(value) > row.max_items:
        raise _refused(path, "too_many", f"must have at most {row.max_items} items")
    cleaned: list[Any] = []
    problems: list[Problem] = []
    for number, item in enumerate(value):
        try:
            cleaned.append(clean(row, item, f"{path}.{number}"))
        except Refused as refused:
            problems.extend(refused.problems)
    if problems:
        raise Refused(problems)
    return cleaned


def _clean_choices(row: Setting, value: Any, path: str) -> list[str]:
    return list(dict.fromkeys(_clean_each(row, value, path, _clean_choice)))


def _clean_strings(row: Setting, value: Any, path: str) -> list[str]:
    return _clean_each(row, value, path, _clean_text)


def _clean_object(row: Setting, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused(path, "wrong_type", "must be an object")
    rows = {member.key: member for member in row.members}
    cleaned, problems = _clean_members(path, rows, value)
    missing = [key for key in row.required if key not in value]
    if value.get("kind") == "value" and "value" in rows and "value" not in value:
        missing.append("value")
    problems += tuple(Problem(f"{path}.{key}", "missing", "is required") for key in missing)
    if problems:
        raise Refused(problems)
    return cleaned


def _clean_list(row: Setting, value: Any, path: str) -> list[dict[str, Any]]:
    return _clean_each(row, value, path, _clean_object)


def _clean_map(row: Setting, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused(path, "wrong_type", "must be an object")
    cleaned: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, item in value.items():
        try:
            name = _clean_choice(row, key, path)
            cleaned[name] = _clean_object(row, item, f"{path}.{name}")
        except Refused as refused:
            problems.extend(refused.problems)
    if problems:
        raise Refused(problems)
    return cleaned


_CLEANERS: Mapping[str, Callable[[Setting, Any, str], Any]] = {
    "bool": _clean_bool,
    "int": _clean_int,
    "seconds": _clean_float,
    "share": _clean_float,
    "number": _clean_float,
    "choice": _clean_choice,
    "choices": _clean_choices,
    "strings": _clean_strings,
    "list": _clean_list,
    "map": _clean_map,
    "text": _clean_text,
    "json": _clean_json,
}
