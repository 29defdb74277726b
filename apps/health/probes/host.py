"""How the machine is that Holdfast runs on."""

import asyncio
import time
from dataclasses import asdict, dataclass
from threading import Lock

import psutil
from django.conf import settings
from django.utils.translation import gettext as _

from apps.health import rules
from apps.health.probes.outcomes import Outcome
from apps.health.targets import Target, option


@dataclass(frozen=True)
class Measures:
    """Shares of the whole, and bytes a second since the measure before (None at the first)."""

    cpu: float
    memory: float
    disk_free: float
    received: float | None
    sent: float | None
    load: float  # processes that run or wait to, over the last minute


class Meter:
    """Measures rates from one look to the next."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._before: tuple[float, int, int] | None = None

    def read(self, seconds: float) -> Measures:
        """Measure, watching the processor for `seconds`; may block for longer on a hung disk."""
        cpu = psutil.cpu_percent(interval=seconds) / 100
        received, sent = self._rates()
        disk = psutil.disk_usage(str(settings.VAR_DIR))
        return Measures(
            cpu=round(cpu, 4),
            memory=round(psutil.virtual_memory().percent / 100, 4),
            disk_free=round(disk.free / disk.total, 4),
            received=received,
            sent=sent,
            load=round(psutil.getloadavg()[0], 2),
        )

    def _rates(self) -> tuple[float | None, float | None]:
        now, counted = time.monotonic(), psutil.net_io_counters()
        if counted is None:
            return None, None
        with self._lock:
            before, self._before = self._before, (now, counted.bytes_recv, counted.bytes_sent)
        if before is None or now <= before[0]:
            return None, None
        span = now - before[0]
        received = max(0, counted.bytes_recv - before[1]) / span
        return round(received, 1), round(max(0, counted.bytes_sent - before[2]) / span, 1)


LOOK_SECONDS = 0.2
meter = Meter()


async def probe(target: Target) -> Outcome:
    """Measure; over a bound the host is impaired, it is never down: it answers."""
    found = await asyncio.to_thread(meter.read, LOOK_SECONDS)
    strained = _strained(found, target)
    mark = rules.IMPAIRED if strained else rules.OK
    return Outcome(mark, ", ".join(strained), None, asdict(found))


def _strained(found: Measures, target: Target) -> list[str]:
    said = []
    if found.cpu > option(target, "cpu_share"):
        said.append(_("processor %.0f %%") % (100 * found.cpu))
    if found.memory > option(target, "memory_share"):
        said.append(_("memory %.0f %%") % (100 * found.memory))
    if found.disk_free < option(target, "disk_free_share"):
        said.append(_("disk %.0f %% free") % (100 * found.disk_free))
    network, most = (found.received or 0.0) + (found.sent or 0.0), option(target, "network_bytes")
    if most and network > most:
        said.append(_("network %.1f MB/s") % (network / 1e6))
    return said
