"""What happened in an environment, in the one form in which every app tells its part of it.

Each app that has something to tell has a function from `Wanted` to `Told` in its `moments.py`; the
console's timeline joins them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, get_args

from django.db import models

Kind = Literal[
    "breaker", "flag", "override", "revision", "health", "dead_letters", "marker", "alert"
]
KINDS: tuple[str, ...] = get_args(Kind)
Phase = Literal["", "begins", "ends"]
READ = 500  # rows of one source at a time


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened.

    `thread` names what goes on from a moment that begins to the one that ends: a flag's engagement,
    an open breaker. `target` is the name of a console page and the key of its row, where there is
    one.
    """

    at: datetime
    kind: Kind
    text: str
    service: str = ""  # slug; empty: of the environment
    dependency: str = ""  # slug
    instance: str = ""  # name
    actor: str = ""
    reason: str = ""
    count: int = 1  # instances or things that did the same at the same time
    thread: str = ""
    phase: Phase = ""
    lasted: float | None = None  # seconds, of one that begins and has ended
    target: tuple[str, Any] | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which moments are asked for: of an environment, in [since, until).

    `own_service` is the key of the only service that whoever asks may see; None: every one.
    """

    environment_id: int
    since: datetime
    until: datetime
    service: str = ""
    dependency: str = ""
    own_service: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a source has to tell. All of it came after `horizon`; None: there is no more."""

    moments: list[Moment]
    horizon: datetime | None = None


Source = Callable[[Wanted], Told]


def newest(
    rows: models.QuerySet[Any], wanted: Wanted, *, by: str = "at"
) -> tuple[list[Any], datetime | None]:
    """The newest rows of the span, newest first, at most `READ`; and the horizon they reach to.

    `rows` may be rows or the tuples of `values_list(…, named=True)`.
    """
    inside = rows.filter(**{f"{by}__gte": wanted.since, f"{by}__lt": wanted.until})
    found = list(inside.order_by(f"-{by}")[:READ])
    return found, getattr(found[-1], by) if len(found) == READ else None


def with_durations(newest_first: Iterable[Moment]) -> list[Moment]:
    """The same moments; those that begin something which then ended know how long it lasted."""
    ends: dict[str, datetime] = {}
    found = []
    for moment in newest_first:
        if moment.phase == "ends":
            ends[moment.thread] = moment.at
        elif moment.phase == "begins" and moment.thread in ends:
            lasted = (ends.pop(moment.thread) - moment.at).total_seconds()
            moment = replace(moment, lasted=lasted)
        found.append(moment)
    return found
