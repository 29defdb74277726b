"""Resolving a name, judging what it resolves to, and telling how long that took."""

import asyncio
import socket
import time

from django.utils.translation import gettext as _

from apps.health.probes.outcomes import Refused
from apps.health.targets import forbidden, is_numeric


async def resolve(host: str, port: int) -> str:
    """The numeric address to connect to.

    Raises:
        Refused: the name is unknown, or leads where no check may go.
    """
    loop = asyncio.get_running_loop()
    if is_numeric(host):
        _check(host)
        return host
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise Refused(_("the name is not known: %s") % host) from error
    for *_family, place in found:
        _check(str(place[0]))
    return str(found[0][4][0])


def _check(place: str) -> None:
    if reason := forbidden(place):
        raise Refused(reason)


class Stopwatch:
    """Seconds since it was made, by the monotonic clock, and of each phase named."""

    def __init__(self) -> None:
        self._started = self._lap = time.monotonic()
        self.phases: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        """The phase that ends now; one that comes again is added to what it took before."""
        now = time.monotonic()
        self.phases[phase] = round(self.phases.get(phase, 0.0) + now - self._lap, 6)
        self._lap = now

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started
