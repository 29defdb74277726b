"""Whether something listens."""

import asyncio

from apps.health.probes.network import Stopwatch, resolve
from apps.health.probes.outcomes import Outcome, fine
from apps.health.targets import Target, parse


async def probe(target: Target) -> Outcome:
    """Connect, and hang up."""
    address, watch = parse(target.kind, target.address), Stopwatch()
    place = await resolve(address.host, address.port)
    watch.lap("resolve")
    _reader, writer = await asyncio.open_connection(place, address.port)
    watch.lap("connect")
    writer.transport.abort()
    return fine(watch.seconds, phases=watch.phases)
