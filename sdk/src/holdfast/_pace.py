"""How often to ask and to report: dictated by the server, spread by jitter, slowed by trouble."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from holdfast._settings import Timing

STREAMING_FACTOR = 4  # a client with a healthy stream polls this much more rarely
_SHORTEST_SECONDS = 0.02
_LONGEST_SECONDS = 3600.0
_LONGEST_RETRY_AFTER = 300.0


@dataclass(slots=True)
class Pace:
    """The intervals in force; seconds. Written by whoever hears the server, read by all loops."""

    poll_seconds: float
    report_seconds: float
    jitter: float
    server_stale_seconds: float = 0.0

    @classmethod
    def before_contact(cls, timing: Timing) -> "Pace":
        """The pace until the server has said something."""
        return cls(timing.poll_seconds, timing.report_seconds, timing.jitter)

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take over what the headers of an answer dictate; nonsense is ignored."""
        self.poll_seconds = _interval(headers.get("holdfast-poll-seconds"), self.poll_seconds)
        self.learn_report(headers.get("holdfast-report-seconds"))
        self.jitter = _between(headers.get("holdfast-jitter"), 0.0, 0.9, self.jitter)
        self.server_stale_seconds = _between(headers.get("policy-stale"), 0.0, math.inf, 0.0)

    def learn_poll(self, seconds: object) -> None:
        """Take over a poll interval said elsewhere than in a header."""
        self.poll_seconds = _interval(seconds, self.poll_seconds)

    def learn_report(self, seconds: object) -> None:
        """Take over a report interval."""
        self.report_seconds = _interval(seconds, self.report_seconds)

    def vary(self, seconds: float) -> float:
        """An interval, longer or shorter by up to the share of jitter."""
        return seconds * random.uniform(1 - self.jitter, 1 + self.jitter)


class Backoff:
    """Waits after failures in a row: doubled each time, bounded, spread so that fleets scatter.

    Attributes:
        first: Longest wait after the first failure; seconds.
    """

    def __init__(self, first: float, longest: float) -> None:
        self.first = first
        self._longest = longest
        self.failures = 0

    def reset(self) -> None:
        self.failures = 0

    def next(self, *, at_least: float = 0.0) -> float:
        """Seconds to wait now, after one more failure."""
        whole = self.first * 2.0 ** min(self.failures, 20)
        self.failures += 1
        return at_least + random.uniform(0.2, 1.0) * min(whole, self._longest)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that `Retry-After` asks for, at most 300; 0 without it or if it is nonsense."""
    return _between(headers.get("retry-after"), 0.0, math.inf, 0.0, cap=_LONGEST_RETRY_AFTER)


def server_time_of(headers: Mapping[str, str]) -> float | None:
    """The server's clock by its `Date` header; UTC timestamp."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def instant(text: object) -> float | None:
    """The UTC timestamp of RFC 3339 text; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _interval(value: object, otherwise: float) -> float:
    """A usable interval; one of 0 or less would be a storm, so it is nonsense."""
    seconds = _between(value, _SHORTEST_SECONDS, math.inf, otherwise)
    return min(seconds, _LONGEST_SECONDS)


def _between(
    value: object, low: float, high: float, otherwise: float, *, cap: float = math.inf
) -> float:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return otherwise
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return otherwise
    is_usable = math.isfinite(number) and low <= number <= high
    return min(number, cap) if is_usable else otherwise
