"""What a change costs, and whether that grows with the fleet: `python -m benchmarks.publish`.

In an environment of N services × 20 dependencies: a flag and a default of the environment, a
default of one dependency, settings of one service, each by its service function from the first
statement to the commit. Then what a process does that serves up to 1,000 of those services: how
long until it has every new document, and by how much an event loop beside that was late. On SQLite
and on PostgreSQL.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.ingest import ROOT, manage
from deploy.local_servers import PostgreSQL, Redis

NAMES = ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "CELERY_BROKER_URL")
SIZES = (10, 100, 1_000, 5_000)


@contextmanager
def environment_of(engine: str) -> Iterator[dict[str, str]]:
    """Of a process on a database of its own."""
    own = {key: value for key, value in os.environ.items() if key not in NAMES}
    own |= {"DJANGO_SETTINGS_MODULE": "controlplane.settings", "SECRET_KEY": "bench"}
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as var:
        own["HOLDFAST_VAR"] = var
        if engine == "SQLite":
            yield own
            return
        with PostgreSQL() as database, Redis() as redis:
            yield own | {"DATABASE_URL": database.url, "REDIS_URL": redis.url}


def measure(engine: str, size: int, times: int) -> None:
    with environment_of(engine) as environment:
        manage(environment, "migrate", "--verbosity", "0")
        command = [sys.executable, "-m", "benchmarks.published", str(size), str(times)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
    for name, figures in json.loads(done.stdout.strip().splitlines()[-1]).items():
        print(f"{engine:10} {size:5} services  {name:22}  {figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    chosen = parser.parse_args()
    for engine in ("SQLite", "PostgreSQL"):
        for size in chosen.sizes:
            measure(engine, size, chosen.times)


if __name__ == "__main__":
    main()
