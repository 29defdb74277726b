"""Two web processes and a worker on PostgreSQL and Redis: news travels, and its loss heals."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
from celery import Celery

from deploy.local_servers import PostgreSQL, Redis
from tests.e2e.doors import Listener, Switch
from tests.e2e.processes import NOT_OURS, ROOT, Process, eventually, fill

SCAN_SECONDS = 2.0  # what a lost message may cost
SLACK_SECONDS = 0.5  # a busy machine's


@dataclass
class Cluster:
    """The processes and the tokens of one distributed Holdfast."""

    postgresql: PostgreSQL
    redis: Redis
    webs: list[Process]
    operator: str
    reader: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    var = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        postgresql, redis = stack.enter_context(PostgreSQL()), stack.enter_context(Redis())
        environment = {
            "DATABASE_URL": postgresql.url,
            "REDIS_URL": redis.url,
            "SECRET_KEY": "x" * 50,
            "HOLDFAST_VAR": str(var),
            "LOG_FORMAT": "json",
        }
        fill(postgresql)
        manage(environment, "migrate", "--verbosity", "0")
        manage(environment, "firstrun")
        webs = [
            Process(
                ["manage.py", "serve", "--no-static", "--port", "{port}"],
                environment,
                log=var / f"web-{number}.log",
            )
            for number in (1, 2)
        ]
        for web in webs:
            stack.enter_context(web)
        operator, reader = [
            manage(environment, "createtoken", "--environment", "production", *scopes).split()[-1]
            for scopes in (
                ["--scope", "flags:write", "--scope", "config:read", "--scope", "tokens:write",
                 "--scope", "policies:read"],
                ["--scope", "policies:read"],
            )
        ]  # fmt: skip
        yield Cluster(postgresql, redis, webs, operator, reader, environment)


def test_a_change_through_one_process_reaches_streams_of_the_other_at_once(
    cluster: Cluster,
) -> None:
    first, second = cluster.webs
    with (
        Switch(first.url, cluster.operator, key="across") as switch,
        Listener(second.url, cluster.reader) as stream,
    ):
        stream.event("hello")
        stream.event("document")
        delays = []
        for turn in [switch.engage, switch.end] * 5:
            turn()
            answered = time.monotonic()
            stream.event("changed")
            delays.append(time.monotonic() - answered)

    assert statistics.median(delays) < SCAN_SECONDS / 4  # by news, long before a scan


def test_a_revocation_through_one_process_cuts_streams_of_the_other(cluster: Cluster) -> None:
    first, second = cluster.webs
    with httpx.Client(
        base_url=f"{first.url}/api/v1/", headers={"Authorization": f"Bearer {cluster.operator}"}
    ) as http:
        made = http.post("tokens", json={"name": "leaked", "scopes": ["policies:read"]})
        with Listener(second.url, made.json()["token"]) as stream:
            stream.event("hello")
            stream.event("document")
            http.post(
                f"tokens/{made.json()['id']}/end",
                json={"reason": "leaked"},
                headers={"If-Match": made.headers["ETag"]},
            ).raise_for_status()
            started = time.monotonic()

            assert stream.event("goodbye")["reason"] == "revoked"
            assert time.monotonic() - started < SCAN_SECONDS


def test_a_commit_in_a_worker_reaches_the_streams_of_both_processes(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The worker ends leases that are over."""
    worker = Worker(cluster.environment, tmp_path / "worker.log")
    with ExitStack() as stack:
        stack.enter_context(worker)
        streams = [stack.enter_context(Listener(web.url, cluster.reader)) for web in cluster.webs]
        switch = stack.enter_context(Switch(cluster.webs[0].url, cluster.operator, key="leased"))
        for stream in streams:
            stream.event("hello")
            stream.event("document")
        switch.engage()
        for stream in streams:
            assert "leased" in stream.event("changed")["changed"]["flags"]
        let_the_lease_be_over(cluster, "leased")

        worker.send("apps.degradation.tasks.end_due_flags")
        changes = [(stream.event("changed"), time.time()) for stream in streams]

    for change, came_at in changes:
        assert "leased" not in change["changed"]["flags"]
        published_at = datetime.fromisoformat(change["published_at"]).timestamp()
        assert came_at - published_at < SLACK_SECONDS


class TestWithoutRedis:
    """Last in this file: the cluster's Redis has had a pause then."""

    def test_lost_news_costs_two_seconds_and_a_commit_is_not_held_up(
        self, cluster: Cluster
    ) -> None:
        first, second = cluster.webs
        with (
            Switch(first.url, cluster.operator, key="deaf") as switch,
            Listener(second.url, cluster.reader) as stream,
        ):
            stream.event("hello")
            stream.event("document")
            usual = timed(switch)
            stream.event("changed")
            stream.event("changed")
            cluster.redis.pause()
            try:
                slowest = timed(switch)
                started = time.monotonic()
                stream.event("changed")
                healed = time.monotonic() - started
            finally:
                cluster.redis.resume()

        assert healed < SCAN_SECONDS + SLACK_SECONDS
        assert slowest < usual + 0.2 + SLACK_SECONDS

    def test_when_redis_is_back_news_travels_again(self, cluster: Cluster) -> None:
        first, second = cluster.webs
        cluster.redis.kill()
        cluster.redis.start()
        with (
            Switch(first.url, cluster.operator, key="back") as switch,
            Listener(second.url, cluster.reader) as stream,
        ):
            stream.event("hello")
            stream.event("document")

            def is_quick() -> bool:
                switch.engage()
                engaged = time.monotonic()
                stream.event("changed")
                took = time.monotonic() - engaged
                switch.end()
                stream.event("changed")
                return took < SCAN_SECONDS / 4

            eventually(lambda: is_quick() and is_quick() and is_quick(), within=30, what="quick")


def manage(environment: dict[str, str], *arguments: str) -> str:
    """Run a management command of the cluster; returns what it printed."""
    own = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=own | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def timed(switch: Switch) -> float:
    """The longer of two commits, in seconds."""
    took = []
    for turn in (switch.engage, switch.end):
        started = time.monotonic()
        turn()
        took.append(time.monotonic() - started)
    return max(took)


def let_the_lease_be_over(cluster: Cluster, key: str) -> None:
    with psycopg.connect(cluster.postgresql.url) as connection:
        connection.execute(
            "UPDATE degradation_flag SET set_at = now() - interval '1 hour', "
            "expires_at = now() - interval '1 second' WHERE key = %s",
            (key,),
        )


class Worker:
    """A Celery worker of the cluster, without beat: it does what it is sent."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._process = Process(
            ["-m", "celery", "--app", "controlplane", "worker", "--concurrency", "1"],
            environment,
            log=log,
        )
        self._process.answers = lambda: "ready." in log.read_text()  # type: ignore[method-assign]  # it has no port
        self._app = Celery(broker=environment["REDIS_URL"])

    def __enter__(self) -> "Worker":
        self._process.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._app.close()
        self._process.__exit__(None, None, None)

    def send(self, task: str) -> None:
        self._app.send_task(task)


def test_metrics_of_the_fleet_are_the_same_from_every_process(cluster: Cluster) -> None:
    scopes = ["--scope", "metrics:read", "--scope", "reports:write"]
    made = manage(cluster.environment, "createtoken", "--environment", "production", *scopes)
    headers = {"Authorization": f"Bearer {made.split()[-1]}"}
    for web in cluster.webs:
        report = make_report("measured", calls=4)
        httpx.post(f"{web.url}/api/v1/reports", json=report, headers=headers).raise_for_status()

    def texts() -> list[str]:
        return [httpx.get(f"{web.url}/metrics", headers=headers).text for web in cluster.webs]

    counted = 'service="measured",dependency="payments-api"} 8'
    eventually(
        lambda: all(text.count(counted) > 1 for text in texts()),  # calls, and those that succeeded
        within=10,
        what="both processes count what was reported to each",
    )
    first, second = (
        [line for line in text.splitlines() if "holdfast_" in line] for text in texts()
    )
    assert first == second
    assert len({text.split('process="')[1].split('"')[0] for text in texts()}) == 2
    promtool = ["promtool", "check", "metrics"]
    checked = subprocess.run(
        promtool, input=texts()[0], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def make_report(service: str, *, calls: int) -> dict[str, object]:
    """The first report of a new instance, of successful calls of one dependency."""
    return {
        "service": service,
        "instance": str(uuid4()),
        "name": "measured-1",
        "sdk": "test",
        "sequence": 1,
        "window_seconds": 5.0,
        "dependencies": {
            "payments-api": {"calls": calls, "successes": calls, "latency": {"80": calls}}
        },
    }
