"""The time, from one place, so that a test can hold it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_source: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: E731 – a seam, not a function


def now() -> datetime:
    """The present instant, aware, UTC."""
    return _source()


def after(lease: timedelta | None) -> datetime | None:
    """When a lease that starts now ends; None for "until somebody ends it"."""
    return None if lease is None else now() + lease


def rfc3339(moment: datetime, *, timespec: str = "auto") -> str:
    """The instant as documents and answers write it, in UTC; `timespec` as `isoformat` has it."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def rfc3339_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


@contextmanager
def use(source: Callable[[], datetime]) -> Iterator[None]:
    """Let `source` tell the time in the whole process, for tests."""
    global _source
    previous, _source = _source, source
    try:
        yield
    finally:
        _source = previous
