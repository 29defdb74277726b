"""Latency histograms of one fixed layout, so that any two can be added up.

158 buckets: index 0 holds everything up to 0.0001 s, index i what is above edge i - 1 and up to
edge i, the last everything above 100 s. An edge belongs to the bucket below it. Each decade has
26 buckets: 1 to 2.5 in ten geometric steps, 2.5 to 5 and 5 to 10 in eight each, so that a value
read back is at most 4.8 % off, and 0.1, 0.25, 0.5, 1, 2.5 and 5 s are edges exactly.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

LARGEST_COUNT = 2**53  # beyond it JSON numbers are no longer exact everywhere


def _edges() -> tuple[float, ...]:
    steps = [2.5 ** (step / 10) for step in range(10)]
    steps += [2.5 * 2 ** (step / 8) for step in range(8)]
    steps += [5 * 2 ** (step / 8) for step in range(8)]
    raw = [step * 10.0**decade for decade in range(-4, 2) for step in steps]
    # Six digits, so that every language and JSON agree on the very same numbers.
    return (*(float(f"{edge:.5e}") for edge in raw), 100.0)


EDGES: tuple[float, ...] = _edges()
"""Upper edges in seconds of all buckets but the last, ascending."""
SIZE = len(EDGES) + 1


def index_of(seconds: float) -> int:
    """Bucket of a duration."""
    return bisect_left(EDGES, seconds)


def encode(counts: Sequence[int]) -> dict[str, int]:
    """The sparse form of reports, `{"<index>": count}`, of a full list of counts."""
    return {str(index): count for index, count in enumerate(counts) if count}


def decode(sparse: Mapping[Any, Any]) -> dict[int, int]:
    """Counts by bucket index, of a sparse histogram from outside, checked.

    Raises:
        ValueError: an index or count that cannot be.
    """
    counts: dict[int, int] = {}
    for text, count in sparse.items():
        if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 4):
            raise ValueError("a bucket index is a whole number in text")
        if int(text) >= SIZE:
            raise ValueError(f"a bucket index is 0 to {SIZE - 1}")
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < LARGEST_COUNT:
            raise ValueError("a bucket's count is a whole number, 0 or more")
        counts[int(text)] = counts.get(int(text), 0) + count
    return counts


def merge(into: MutableMapping[str, int], *others: Mapping[str, int]) -> None:
    """Add sparse histograms up, in place."""
    for other in others:
        for index, count in other.items():
            into[index] = into.get(index, 0) + count


def total(counts: Mapping[str, int] | Mapping[int, int]) -> int:
    """Number of durations in a sparse histogram."""
    return sum(counts.values())


def quantile(counts: Mapping[str, int] | Mapping[int, int], q: float) -> float | None:
    """Duration in seconds below or at which the share `q` (0 to 1) of all lies; None if empty.

    Answers the geometric middle of the bucket, at most 4.8 % off; the first edge for what lies
    below it, 100 s for what lies above that.

    Raises:
        ValueError: `q` outside 0 to 1.
    """
    if not 0 <= q <= 1:
        raise ValueError("q must be 0 to 1")
    by_index = sorted((int(index), count) for index, count in counts.items())
    rank = q * sum(count for _, count in by_index)
    seen = 0
    for index, count in by_index:
        seen += count
        if count and seen >= rank:
            return middle(index)
    return None


def quantiles(counts: Mapping[str, int], shares: Iterable[float]) -> list[float | None]:
    """Several quantiles of one histogram, in the order asked for."""
    return [quantile(counts, share) for share in shares]


def middle(index: int) -> float:
    """Duration in seconds that stands for all in a bucket."""
    if index <= 0:
        return EDGES[0]
    if index >= len(EDGES):
        return EDGES[-1]
    return float((EDGES[index - 1] * EDGES[index]) ** 0.5)
