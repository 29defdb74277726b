"""What a rule can be about: the unit of its threshold, and on which side of it trouble lies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from holdfast import histogram

WITHIN = 0.95  # share of calls that must be within the threshold of a latency rule: its p95


@dataclass(frozen=True)
class Kind:
    """How readings of one kind are compared.

    `unit` is s, share or the plural of what is counted; `most` the largest sensible threshold.
    """

    unit: str
    most: float
    below: bool = False  # trouble is a value under the threshold
    counts: bool = False  # whole things: reaching the threshold is trouble already
    sampled: bool = False  # says nothing below `min_samples`
    windowed: bool = False  # looks at the last `window_seconds`
    of_calls: bool = False  # says nothing new while a fallback flag skips the calls


KINDS: Mapping[str, Kind] = {
    "latency": Kind("s", 100.0, sampled=True, windowed=True, of_calls=True),
    "error_rate": Kind("share", 1.0, sampled=True, windowed=True, of_calls=True),
    "breaker_open": Kind("instances", 10_000, counts=True, of_calls=True),
    "bulkhead_full": Kind("rejections", 1e9, counts=True, windowed=True, of_calls=True),
    "retries_exhausted": Kind("calls", 1e9, counts=True, windowed=True, of_calls=True),
    "check_down": Kind("checks", 1, counts=True),
    "check_flapping": Kind("checks", 1, counts=True),
    "memory_high": Kind("share", 1.0),
    "disk_low": Kind("share", 1.0, below=True),
    "cpu_high": Kind("share", 1.0),
    "not_converged": Kind("s", 86_400),
    "dead_letters_growing": Kind("letters", 1e9, counts=True, windowed=True),
    "dead_letters_many": Kind("letters", 1e9, counts=True),
    "dead_letters_old": Kind("s", 31_536_000),
}
OF_CALLS = frozenset(name for name, kind in KINDS.items() if kind.of_calls)


class Reading(NamedTuple):
    """What was measured of one subject; `value` None: too little to say.

    With `latency`, a sparse histogram, the comparison counts the calls within the threshold,
    which is exact where the threshold is an edge of the histogram; `value` is then its p95.
    """

    value: float | None
    samples: int = 0
    latency: Mapping[str, int] | None = None

    def is_beyond(self, limit: float, kind: Kind) -> bool:
        """Whether it is on the side of `limit` where trouble lies."""
        if self.value is None:
            return False
        if self.latency is not None:
            return share_within(self.latency, limit) < WITHIN
        if kind.below:
            return self.value < limit
        return self.value >= limit if kind.counts else self.value > limit


def share_within(latency: Mapping[str, int], seconds: float) -> float:
    """Share of durations of at most `seconds`, of the bucket it lies in all; 1 of none."""
    total = histogram.total(latency)
    last = histogram.index_of(seconds)
    within = sum(count for index, count in latency.items() if int(index) <= last)
    return within / total if total else 1.0


def shown(value: float | None, unit: str) -> str:
    """A value with its unit, for people; nothing measured is a dash."""
    if value is None:
        return "–"
    if unit == "share":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value < 120 else _long(round(value))
    return f"{value:g} {unit.removesuffix('s') if value == 1 else unit}"


def _long(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest if not hours else 0, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
