"""How soon pages about the past are there when there is much of it: `python -m benchmarks.history`.

A database with 500 services × 20 dependencies, two instances of each service, and as many rows of
windows as `--rows` says: a third each of 10 s, of minutes and of hours, up to now; of breakers a
tenth as many events. Then the median of `--times` requests, each answered by Django in one process,
on SQLite and on PostgreSQL: the dashboard, the history and the timeline of a cell, a service, a
dependency and everything, the health of services, the wall's picture. With `--plans` the database's
plan of every statement that reads windows, sums or events. At the end what rows take on disk, and
what summing them up takes.

`--rows 10000000` takes 20 minutes to fill on two busy cores. It is no part of `make bench`. With
`--error`, in place of all that: how far quantiles of skewed durations, read from histograms, are
from the exact ones.
"""

import argparse
import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

from benchmarks.ingest import ROOT, manage
from benchmarks.publish import environment_of
from holdfast import histogram

ENGINES = ("SQLite", "PostgreSQL")
QUANTILES = (0.5, 0.95, 0.99)
DURATIONS: dict[str, Callable[[random.Random], float]] = {
    "lognormal (median 50 ms, σ 1.2)": lambda chance: chance.lognormvariate(-3, 1.2),
    "bimodal (12 ms, a fifth around 2 s)": lambda chance: (
        chance.gauss(2.0, 0.2) if chance.random() < 0.2 else chance.gauss(0.012, 0.002)
    ),
    "Pareto (from 5 ms, α 1.5)": lambda chance: 0.005 * chance.paretovariate(1.5),
}


def errors(draw: Callable[[random.Random], float], seed: int, count: int) -> list[float]:
    """Relative errors of the quantiles of `count` durations."""
    chance = random.Random(seed)
    durations = sorted(min(99.0, max(0.0002, draw(chance))) for _ in range(count))
    counts = Counter(str(histogram.index_of(duration)) for duration in durations)
    found = []
    for share in QUANTILES:
        exact = durations[math.ceil(share * count) - 1]
        found.append(abs((histogram.quantile(counts, share) or 0.0) - exact) / exact)
    return found


def show_errors(runs: int = 20, count: int = 50_000) -> None:
    for name, draw in DURATIONS.items():
        columns = zip(*(errors(draw, seed, count) for seed in range(runs)), strict=True)
        told = [f"{100 * sum(each) / runs:.1f} %, {100 * max(each):.1f} %" for each in columns]
        print(f"{name:36} " + "   ".join(told), flush=True)


def measure(engine: str, *, rows: int, times: int, plans: bool) -> None:
    with environment_of(engine) as environment:
        manage(environment, "migrate", "--verbosity", "0")
        command = [sys.executable, "-m", "benchmarks.past", str(rows), str(times)]
        command += ["--plans"] if plans else []
        print(f"{engine}:", flush=True)
        subprocess.run(command, cwd=ROOT, env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--plans", action="store_true")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--error", action="store_true")
    chosen = parser.parse_args()
    if chosen.error:
        show_errors()
        return
    for engine in chosen.engines:
        measure(engine, rows=chosen.rows, times=chosen.times, plans=chosen.plans)


if __name__ == "__main__":
    main()
