"""Every test, in tiers: one pytest per tier, coverage over all of them.

Arguments go to each pytest; `--tier NAME` (repeatable) runs only that tier, without the bound on
coverage.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit
from xml.etree import ElementTree

import psycopg

from deploy.local_servers import LocalServer, PostgreSQL, RabbitMQ, Redis
from tests.servers import shared_name

ROOT = Path(__file__).resolve().parent.parent
LEAST_COVERAGE = 90  # per cent, of lines and branches
# Variables that name databases with all tables, for tests to copy instead of making their own.
MIGRATED_SQLITE = "TESTS_MIGRATED_SQLITE"  # path of a file
MIGRATED_POSTGRESQL = "TESTS_MIGRATED_POSTGRESQL"  # URL, in the server that tests share
MODE_VARIABLES = ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "CELERY_BROKER_URL")


class Tier(NamedTuple):
    """One run of pytest."""

    name: str
    arguments: tuple[str, ...]
    servers: tuple[type[LocalServer], ...] = ()  # started before it, shared by its workers
    is_distributed: bool = False  # on PostgreSQL and Redis instead of SQLite
    idles: int = 0  # tests at a time, beyond one a core: for those that mostly wait
    is_measured: bool = True  # by coverage, which makes it slower by a third


TIERS = [
    Tier(
        "sqlite",
        ("tests", "sdk/tests", "--ignore=tests/e2e", "--dist=worksteal"),
        (Redis,),
        idles=2,
    ),
    Tier(
        "postgresql",
        ("tests", "--ignore=tests/e2e", "--dist=worksteal"),
        (PostgreSQL, Redis),
        is_distributed=True,
        idles=1,
        is_measured=False,  # tests of the above, once more
    ),
    Tier(
        "e2e",
        ("tests/e2e", "--dist=loadfile", "--no-loadscope-reorder"),  # see tests/e2e/conftest.py
        (PostgreSQL, Redis, RabbitMQ),
        idles=1,
        is_measured=False,  # its servers would be slower by a third, at moments that matter
    ),
]


def environment(
    var: Path, servers: dict[str, str], migrated: dict[str, str], tier: Tier
) -> dict[str, str]:
    """What a tier's pytest sees: nothing of the caller's own database, a directory of its own."""
    own = {"HOLDFAST_VAR": str(var), "SECRET_KEY": "tests", **coverage_settings(var)}
    if tier.is_distributed:
        own["DATABASE_URL"] = servers[shared_name(PostgreSQL)]
        own["REDIS_URL"] = servers[shared_name(Redis)]
    return inherited() | servers | migrated | own


def inherited() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in MODE_VARIABLES}


def migrate(var: Path, servers: dict[str, str]) -> dict[str, str]:
    """Databases with all tables, of SQLite and of PostgreSQL if that runs."""
    found = {MIGRATED_SQLITE: str(var / "migrated" / "holdfast.sqlite3")}
    modes: list[dict[str, str]] = [{}]
    if url := servers.get(shared_name(PostgreSQL)):
        found[MIGRATED_POSTGRESQL] = urlsplit(url)._replace(path="/migrated").geturl()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE migrated")
        redis = servers[shared_name(Redis)]
        modes.append({"DATABASE_URL": found[MIGRATED_POSTGRESQL], "REDIS_URL": redis})
    (var / "migrated").mkdir()
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    for mode in modes:
        own = {"HOLDFAST_VAR": str(var / "migrated"), "SECRET_KEY": "tests"}
        subprocess.run(command, cwd=ROOT, env=inherited() | own | mode, check=True)
    return found


def coverage_settings(var: Path) -> dict[str, str]:
    """Where coverage writes, and where the sources are, for processes in whatever directory."""
    return {"COVERAGE_FILE": str(var / "coverage"), "COVERAGE_ROOT": str(ROOT)}


def run_tier(tier: Tier, extra: list[str], environment: dict[str, str], results: Path) -> bool:
    """Whether all its tests passed; `results` is where pytest writes what became of each."""
    print(f"\n=== {tier.name}: pytest {' '.join([*tier.arguments, *extra])}", flush=True)
    started = time.monotonic()
    workers = ["-n", str((os.cpu_count() or 2) + tier.idles)]
    measured = ["-m", "coverage", "run"] if tier.is_measured else []
    command = [sys.executable, *measured, "-m", "pytest", f"--junitxml={results}"]
    done = subprocess.run(
        [*command, *tier.arguments, *workers, *extra], cwd=ROOT, env=environment, check=False
    )
    print(f"=== {tier.name}: {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0


def failures(results: Path) -> list[str]:
    """The tests that failed, each with the first line of why."""
    if not results.exists():
        return ["pytest itself did not finish"]
    found = []
    for case in ElementTree.parse(results).iter("testcase"):
        for problem in (*case.findall("failure"), *case.findall("error")):
            why = (problem.get("message") or "").strip().split("\n")[0]
            found.append(f"{case.get('classname')}::{case.get('name')}: {why}")
    return found


def report_coverage(var: Path, *, least: int) -> bool:
    """Whether the tiers together reach `least` per cent."""
    coverage = [sys.executable, "-m", "coverage"]
    settings = os.environ | coverage_settings(var)
    subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, env=settings, check=True)
    shutil.copy(var / "coverage", ROOT / ".coverage")  # for `coverage html`
    done = subprocess.run(
        [*coverage, "report", f"--fail-under={least}"], cwd=ROOT, env=settings, check=False
    )
    return done.returncode == 0


def stop(number: int, _frame: object) -> NoReturn:
    """Leave through the context managers, which stop the servers."""
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", action="append", choices=[tier.name for tier in TIERS])
    chosen, extra = parser.parse_known_args()
    tiers = [tier for tier in TIERS if not chosen.tier or tier.name in chosen.tier]
    signal.signal(signal.SIGTERM, stop)
    with ExitStack() as stack:
        var = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-tests-")))
        servers = {}
        for kind in dict.fromkeys(kind for tier in tiers for kind in tier.servers):
            print(f"Starting {kind.__name__}", flush=True)
            servers[shared_name(kind)] = stack.enter_context(kind()).url
        migrated = migrate(var, servers)
        results = {tier: var / f"{tier.name}.xml" for tier in tiers}
        passed = [
            run_tier(tier, extra, environment(var, servers, migrated, tier), results[tier])
            for tier in tiers
        ]
        is_measured = any(tier.is_measured for tier in tiers)
        least = 0 if chosen.tier else LEAST_COVERAGE
        covered = not is_measured or report_coverage(var, least=least)
        # Last of all, where it is seen: the table of coverage is long.
        for tier, is_green in zip(tiers, passed, strict=True):
            for line in failures(results[tier]) if not is_green else ():
                print(f"FAILED {tier.name}: {line}", flush=True)
    return 0 if all(passed) and covered else 1


if __name__ == "__main__":
    sys.exit(main())
