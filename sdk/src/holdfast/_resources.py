"""How busy the machine is, as reports say it: shares in use, or free.

On Linux read from /proc and, where the container has limits, from its control groups (version 2):
in a container of half a processor and 512 MiB those are the whole. Elsewhere `psutil` is asked if
it is installed. What cannot be measured is left out; nothing here ever raises.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from holdfast.clock import Clock

_TICKS = 8  # of a line of /proc/stat; guests, which follow, are counted in them already


T = TypeVar("T")


class _Cpu(NamedTuple):
    """Time of processors in use and there was, since some beginning; `source` says which."""

    source: str
    busy: float
    total: float


class Resources:
    """Measures when asked; cheap enough for every report. For one thread.

    Args:
        root: Where `/proc` and `/sys` are; for tests.
        disk: A path on the disk whose free share is reported.
    """

    def __init__(self, clock: Clock, *, root: Path = Path("/"), disk: str = os.sep) -> None:
        self._clock = clock
        self._root = root
        self._disk = disk
        self._is_linux = (root / "proc/self/statm").exists()
        self._cpu = _attempted(self._cpu_times)

    def collect(self) -> dict[str, float]:
        """Shares, 0 to 1, of those that can be measured.

        `cpu` of the processors and `memory_host` of the memory in use, by anybody on the machine
        or in the container; `memory` of it by this process; `disk_free` of the disk.
        """
        measures: dict[str, Callable[[], float | None]] = {
            "cpu": self._cpu_share,
            "memory": self._own_memory,
            "memory_host": self._memory_in_use,
            "disk_free": self._disk_free,
        }
        measured = {name: _attempted(measure) for name, measure in measures.items()}
        return {
            name: round(min(1.0, max(0.0, share)), 4)
            for name, share in measured.items()
            if share is not None
        }

    def _cpu_share(self) -> float | None:
        """Since the last time it was asked."""
        before, now = self._cpu, _attempted(self._cpu_times)
        self._cpu = now
        if before is None or now is None or before.source != now.source:
            return None
        elapsed = now.total - before.total
        return (now.busy - before.busy) / elapsed if elapsed > 0 else None

    def _cpu_times(self) -> _Cpu:
        return self._cpu_of_container() or self._cpu_of_machine()

    def _cpu_of_container(self) -> _Cpu | None:
        limits = [
            (int(quota) / int(period), group)
            for group in self._groups()
            for quota, period in [_words(group / "cpu.max", "max", "0")]
            if quota != "max"
        ]
        if not limits:
            return None
        processors, group = min(limits)
        busy = _table(group / "cpu.stat")["usage_usec"] / 1e6
        return _Cpu(str(group), busy, self._clock.monotonic() * processors)

    def _cpu_of_machine(self) -> _Cpu:
        if not self._is_linux:
            times = _psutil().cpu_times()
            return _Cpu("machine", sum(times) - times.idle, sum(times))
        line = (self._root / "proc/stat").read_text().split("\n", 1)[0]
        ticks = [float(word) for word in line.split()[1 : _TICKS + 1]]
        idle, waiting = ticks[3], ticks[4]
        return _Cpu("machine", sum(ticks) - idle - waiting, sum(ticks))

    def _own_memory(self) -> float:
        if not self._is_linux:
            return float(_psutil().Process().memory_info().rss / self._memory()[1])
        resident = int((self._root / "proc/self/statm").read_text().split()[1])
        return resident * os.sysconf("SC_PAGE_SIZE") / self._memory()[1]

    def _memory_in_use(self) -> float:
        used, total = self._memory()
        return used / total

    def _memory(self) -> tuple[float, float]:
        """Bytes in use and there are, of the tightest limit or else of the machine."""
        if not self._is_linux:
            memory = _psutil().virtual_memory()
            return memory.total - memory.available, memory.total
        limits = [
            (int(limit), group)
            for group in self._groups()
            for [limit] in [_words(group / "memory.max", "max")]
            if limit != "max"
        ]
        machine = _table(self._root / "proc/meminfo")
        total = machine["MemTotal"] * 1024
        if limits and min(limits)[0] < total:
            limit, group = min(limits)
            unused = _table(group / "memory.stat").get("inactive_file", 0)  # given up when needed
            return int((group / "memory.current").read_text()) - unused, limit
        return total - machine["MemAvailable"] * 1024, total

    def _disk_free(self) -> float:
        disk = shutil.disk_usage(self._disk)
        return disk.free / (disk.used + disk.free)  # as df counts: without what only root may use

    def _groups(self) -> Iterator[Path]:
        """The process's control group and those around it, each of which may set limits."""
        top = self._root / "sys/fs/cgroup"
        for line in _lines(self._root / "proc/self/cgroup"):
            if line.startswith("0::"):
                group = top / line[3:].lstrip("/")
                yield from (each for each in (group, *group.parents) if each.is_relative_to(top))


def _attempted(measure: Callable[[], T]) -> T | None:
    try:
        return measure()
    except Exception:  # noqa: BLE001 - a figure that cannot be had must not cost the report
        return None


def _psutil() -> Any:
    """The package, if somebody installed it; raises ImportError if not."""
    import psutil

    return psutil


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _words(path: Path, *missing: str) -> list[str]:
    """The words of a file of one line; `missing` if there is no such file."""
    return path.read_text().split() if path.exists() else list(missing)


def _table(path: Path) -> dict[str, int]:
    """Name → number of a file with one of each per line."""
    rows = (line.replace(":", " ").split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
