"""What every server takes: one value out of bounds would have the whole report refused.

The server checks reports strictly, and what is wrong once is mostly wrong in the next report too.
So whatever a service's code brings in, names of dependencies or texts of its errors, is made to
fit before it is sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

LARGEST_COUNT = 2**32 - 1
LARGEST_NUMBER = 2**53 - 1
MOST_DATA = 4096  # bytes of an event's data
MOST_LEVELS = 5  # of nesting in it
LONGEST_TYPE = 60


def counted(value: Any) -> Any:
    """What was counted: numbers that are counts, whatever led to them."""
    return _fitted(value, 0, LARGEST_COUNT, MOST_LEVELS)


def numbered(value: Any) -> Any:
    """Members that are no counts: texts and numbers, such as revisions."""
    return _fitted(value, 0, LARGEST_NUMBER, MOST_LEVELS)


def event(reported: Mapping[str, Any]) -> dict[str, Any]:
    """An event as reports send it; without its data if they are too large."""
    fitted = {name: numbered(value) for name, value in reported.items() if name != "data"}
    if "type" in fitted:
        fitted["type"] = fitted["type"][:LONGEST_TYPE]
    if "data" in reported:
        data = _fitted(reported["data"], -LARGEST_NUMBER, LARGEST_NUMBER, MOST_LEVELS)
        is_small = len(msgspec.json.encode(data)) <= MOST_DATA
        fitted["data"] = data if is_small else {"omitted": "too large"}
    return fitted


def epoch(text: str) -> str | None:
    """An epoch as the server knows them; None for what is none."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _fitted(value: Any, low: int, high: int, levels: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int | float):
        return min(max(value, low), high)
    if not isinstance(value, Mapping | list | tuple) or not levels:
        return type(value).__name__  # nothing a report has a place for
    if isinstance(value, Mapping):
        return {
            _text(str(key)): _fitted(each, low, high, levels - 1) for key, each in value.items()
        }
    return [_fitted(each, low, high, levels - 1) for each in value]


def _text(value: str) -> str:
    """Text that is UTF-8 and neither has a NUL, which databases refuse, nor seems to in JSON."""
    text = value.encode("utf-8", "replace").decode()
    return text.replace("\0", "�").replace("\\u0000", "�")
