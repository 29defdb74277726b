"""How retries multiply along calls from service to service.

A service retries, the service it asks retries in turn: attempts multiply along the way, and a
dependency at its end that fails gets the product of them for one call at its beginning.
Source: Google, *Site Reliability Engineering*, ch. 22, "Addressing Cascading Failures".
"""

import math
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

MOST_CALLS = 10  # of one, before it is worth a warning: two services that try three times make 9
MOST_HOPS = 8  # of a way that is followed, on each side of a hop
ANYBODY = "…"

Hop = tuple[str, str]  # a service and the dependency it calls, which may be a service too


class Way(NamedTuple):
    """Calls one after the other, and how often each is tried."""

    names: tuple[str, ...]  # the first caller first
    attempts: tuple[int, ...]  # one fewer

    @property
    def product(self) -> int:
        return math.prod(self.attempts)

    def from_any(self) -> "Way":
        """The same, whoever begins it."""
        return self._replace(names=(ANYBODY, *self.names[1:]))

    @property
    def is_amplified(self) -> bool:
        return sum(each > 1 for each in self.attempts) > 1 and self.product > MOST_CALLS


class Map(NamedTuple):
    """Who calls whom, as far as retries can multiply."""

    ways: dict[Hop, Way]  # the worst through each hop; hops of circles are in none
    circles: list[Way]  # each ends where it begins


def explore(hops: Iterable[Hop], attempts: Callable[[Hop], int]) -> Map:
    """The worst way through every hop, and the circles in which services call each other."""
    callees: dict[str, list[str]] = defaultdict(list)
    for service, dependency in sorted(set(hops)):
        callees[service].append(dependency)
    order, circles = _ordered(callees)
    closing = {circle[-2:] for circle in circles}
    straight = [
        (service, dependency)
        for service in order
        for dependency in callees[service]
        if (service, dependency) not in closing
    ]
    tried = {hop: attempts(hop) for hop in straight}
    below, above = _worst_below(straight, tried), _worst_above(straight, tried)
    ways = {
        (service, dependency): Way(
            above[service].names + below[dependency].names,
            (*above[service].attempts, tried[service, dependency], *below[dependency].attempts),
        )
        for service, dependency in straight
    }
    return Map(ways, [_round(circle, attempts) for circle in circles])


def _ordered(callees: Mapping[str, list[str]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Services after those they call, and the circles found on the way (each closed by a hop)."""
    order: dict[str, None] = {}
    circles: list[tuple[str, ...]] = []
    for root in sorted(callees):
        if root not in order:
            _descend(root, callees, order, circles)
    return list(order), circles


def _descend(
    root: str,
    callees: Mapping[str, list[str]],
    order: dict[str, None],
    circles: list[tuple[str, ...]],
) -> None:
    """Depth first, without recursion: ways may be longer than Python's stack."""
    path = {root: iter(callees[root])}
    while path:
        name = next(reversed(path))
        step = _step(path, callees, order, circles)
        if step is None:
            path.popitem()
            order[name] = None
        else:
            path[step] = iter(callees[step])


def _step(
    path: dict[str, Iterator[str]],
    callees: Mapping[str, list[str]],
    done: Container[str],
    circles: list[tuple[str, ...]],
) -> str | None:
    """The next service to go down to; None when there is none left."""
    for callee in path[next(reversed(path))]:
        if callee in path:
            names = list(path)
            circles.append((*names[names.index(callee) :], callee))
        elif callee in callees and callee not in done:
            return callee
    return None


def _worst_below(straight: Iterable[Hop], tried: Mapping[Hop, int]) -> dict[str, Way]:
    """From each service on, the way on which one call becomes most."""
    worst: dict[str, Way] = {}
    for service, dependency in straight:  # callees come first
        rest = worst.get(dependency) or Way((dependency,), ())
        way = Way(
            (service, *rest.names[:MOST_HOPS]),
            (tried[service, dependency], *rest.attempts[: MOST_HOPS - 1]),
        )
        if service not in worst or way.product > worst[service].product:
            worst[service] = way
    return _with_ends(worst, (dependency for _service, dependency in straight))


def _worst_above(straight: list[Hop], tried: Mapping[Hop, int]) -> dict[str, Way]:
    """Up to each service, the way on which one call has become most."""
    worst: dict[str, Way] = {}
    for service, dependency in reversed(straight):  # callers come first
        rest = worst.get(service) or Way((service,), ())
        way = Way(
            (*rest.names[-MOST_HOPS:], dependency),
            (*rest.attempts[1 - MOST_HOPS :], tried[service, dependency]),
        )
        if dependency not in worst or way.product > worst[dependency].product:
            worst[dependency] = way
    return _with_ends(worst, (service for service, _dependency in straight))


def _with_ends(worst: Mapping[str, Way], names: Iterable[str]) -> dict[str, Way]:
    return {name: Way((name,), ()) for name in names} | dict(worst)


def _round(circle: tuple[str, ...], attempts: Callable[[Hop], int]) -> Way:
    hops = pairwise(circle)
    return Way(circle, tuple(attempts(hop) for hop in hops))
