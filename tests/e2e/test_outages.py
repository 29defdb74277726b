"""A distributed Holdfast that loses its parts: what services see, and that it heals alone.

Every test leaves the cluster as it found it, so they may run in any order.
"""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from redis import Redis

from holdfast import Holdfast as Client
from tests.e2e.doors import Listener, Switch
from tests.e2e.processes import Cluster, Process, eventually

SCOPES = ("flags:write", "config:read", "audit:read", "tokens:write", "policies:read")
SERVICE = "orders"
GIVEN_UP = "reconnection attempt in pool"  # psycopg_pool's words
HEALTH = (
    "",
    "/live",
    "/ready",
    "/db",
    "/redis",
    "/rabbitmq",
    "/celery",
    "/dependencies",
    "/services",
    "/detailed",
)
CROWD = 150  # requests at once: more than the pool has connections and places to wait


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def operator(cluster: Cluster) -> str:
    return cluster.token(*SCOPES)


@pytest.fixture(scope="module")
def instance_token(cluster: Cluster) -> str:
    return cluster.token("policies:read", "reports:write", service=SERVICE)


@pytest.fixture(scope="module")
def prober(cluster: Cluster) -> Iterator[httpx.Client]:
    """Somebody who may ask how Holdfast is, and whom it knows from memory by now."""
    token = cluster.token("health:read")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=cluster.webs[0].url, headers=headers, timeout=20) as client:
        eventually(lambda: health_of(client, "/db")[0] == 200, within=10, what="it is known")
        time.sleep(2.5)  # the look of every two seconds has read the token
        yield client


@pytest.fixture
def clients(cluster: Cluster, instance_token: str, tmp_path: Path) -> Iterator[list[Client]]:
    """Two instances of a service, both at the second web process."""
    with ExitStack() as stack:
        started = [
            Client(
                cluster.webs[1].url,
                instance_token,
                service=SERVICE,
                cache_dir=tmp_path / str(number),
            )
            for number in range(2)
        ]
        for client in started:
            stack.enter_context(client)
            assert client.start(wait=10)
        eventually(lambda: all_stream(started), within=10, what="both instances stream")
        yield started


class TestMainJob:
    def test_it_is_done_across_processes_and_undone_by_the_worker(
        self, cluster: Cluster, operator: str, clients: list[Client]
    ) -> None:
        with Switch(cluster.webs[0].url, operator, key="across", service=SERVICE) as switch:
            switch.engage()
            eventually(lambda: all_obey(clients, "across"), within=1, what="both obey")
            eventually(
                lambda: convergence(cluster.webs[0], operator) == (2, 2),
                within=5,
                what="2 of 2 applied",
            )
            end_leases(cluster, "across")

            eventually(lambda: none_obeys(clients, "across"), within=10, what="both are free")

        ended = audited(cluster.webs[1], operator, "flag.ended", "across")
        assert [entry["actor_kind"] for entry in ended] == ["automation"]
        assert [entry["actor_label"] for entry in ended] == ["lease"]


class TestKilled:
    def test_a_web_process_killed_under_its_streams_costs_no_policy(
        self, cluster: Cluster, operator: str, clients: list[Client]
    ) -> None:
        first, second = cluster.webs
        with Switch(first.url, operator, key="kept", service=SERVICE) as switch:
            switch.engage()
            eventually(lambda: all_obey(clients, "kept"), within=1, what="both obey")

            second.kill()
            switch.end()  # they cannot know
            assert all_obey(clients, "kept")
            again(second)

            eventually(lambda: none_obeys(clients, "kept"), within=20, what="both caught up")
            eventually(lambda: all_stream(clients), within=20, what="both stream again")

    def test_worker_and_beat_killed_while_they_end_leases_lose_and_repeat_nothing(
        self, cluster: Cluster, operator: str
    ) -> None:
        worker, beat = cluster.processes["worker"], cluster.processes["beat"]
        with ExitStack() as stack:
            for number in range(40):
                key = f"due-{number}"
                switch = Switch(cluster.webs[0].url, operator, key=key)
                stack.enter_context(switch).engage()
            end_leases(cluster, "due-%")
            eventually(lambda: still_engaged(cluster, "due-%") < 40, within=10, what="it began")
            kill_all(worker)
            left = still_engaged(cluster, "due-%")
            beat.kill()
        again(worker)
        again(beat)

        eventually(lambda: still_engaged(cluster, "due-%") == 0, within=20, what="all are ended")
        ended = [
            entry["object_label"]
            for entry in audited(cluster.webs[0], operator, "flag.ended", "due-")
        ]
        assert left > 0  # else nothing was interrupted
        assert len(ended) == len(set(ended)) == 40
        assert "BROKEN" not in cluster.manage("verifyaudit")


class TestWithoutPostgreSQL:
    @pytest.mark.parametrize(("fault", "is_redis_away"), [("pause", False), ("kill", True)])
    def test_policies_go_on_changes_are_refused_and_it_heals_alone(
        self,
        cluster: Cluster,
        operator: str,
        clients: list[Client],
        fault: str,
        is_redis_away: bool,
    ) -> None:
        first, second = cluster.webs
        key = f"in-{fault}-with-redis" if is_redis_away else f"in-{fault}"
        pids = [process.pid for process in cluster.processes.values()]
        with ExitStack() as stack:
            switch = Switch(first.url, operator, key=key, service=SERVICE)
            stack.enter_context(switch).engage()
            eventually(lambda: all_obey(clients, key), within=2, what="both obey")
            stream = stack.enter_context(Listener(second.url, operator, SERVICE))
            stream.event("hello")
            stream.event("document")
            getattr(cluster.postgresql, fault)()
            if is_redis_away:
                cluster.redis.kill()
            try:
                refused, took = timed(switch.attempt_end)
                assert_unavailable(refused)
                assert took < 6
                page, took = timed(lambda: get(first, "/admin/", sessionid="x" * 32))
                assert (page.status_code, took < 12) == (503, True)
                assert "Traceback" not in page.text
                eventually(
                    lambda: all(stale(web, operator) > 5 for web in cluster.webs),
                    within=10,
                    what="answers say how old they are",
                )
                assert all_obey(clients, key)
                assert get(first, "/api/v1/health/live").status_code == 200
            finally:
                restore(cluster, fault)
                if is_redis_away:
                    cluster.redis.start()

            eventually(
                lambda: all(stale(web, operator) == 0 for web in cluster.webs),
                within=10,
                what="policies are fresh",
            )
            switch.end()
            assert stream.event("changed")["changed"]["flags"] == {}
            eventually(lambda: none_obeys(clients, key), within=10, what="both are free")
        assert [process.pid for process in cluster.processes.values()] == pids
        assert all(process.is_running for process in cluster.processes.values())
        assert len(audited(first, operator, "flag.ended", key)) == 1

    def test_a_web_process_that_starts_meanwhile_serves_what_was_last_published(
        self, cluster: Cluster, operator: str, clients: list[Client]
    ) -> None:
        first, second = cluster.webs
        with Switch(first.url, operator, key="over-a-start", service=SERVICE) as switch:
            switch.engage()
            eventually(lambda: all_obey(clients, "over-a-start"), within=2, what="both obey")
            eventually(lambda: is_kept(cluster, "over-a-start"), within=20, what="it is on disk")
            cluster.postgresql.kill()
            try:
                kill_all(second)
                again(second)
                eventually(
                    lambda: policy(second, operator).status_code == 200,
                    within=20,
                    what="it serves without its database",
                )
                assert stale(second, operator) > 5
                assert "over-a-start" in policy(second, operator).json()["flags"]
            finally:
                restore(cluster, "kill")
            eventually(lambda: stale(second, operator) == 0, within=20, what="it is fresh")
            switch.end()

            eventually(lambda: none_obeys(clients, "over-a-start"), within=40, what="both are free")

    @pytest.mark.parametrize("fault", ["pause", "kill"])
    def test_a_crowd_of_requests_is_refused_in_seconds_and_policies_stay_quick(
        self, cluster: Cluster, operator: str, fault: str
    ) -> None:
        web = cluster.webs[0]
        given_up = web.log.count(GIVEN_UP)
        getattr(cluster.postgresql, fault)()
        try:
            if fault == "kill":  # the crowd then comes to a pool that has no connection left
                assert flags(web, operator).status_code == 503
                eventually(
                    lambda: web.log.count(GIVEN_UP) > given_up, within=15, what="the pool gave up"
                )
            with httpx.Client(timeout=30, limits=httpx.Limits(max_connections=CROWD)) as http:
                url, headers = f"{web.url}/api/v1/flags", {"Authorization": f"Bearer {operator}"}
                with ThreadPoolExecutor(CROWD) as pool:
                    asked = [pool.submit(http.get, url, headers=headers) for _ in range(CROWD)]
                    took = [timed(lambda: policy(web, operator))[1] for _ in range(20)]
                    refused = [each.result() for each in asked]
        finally:
            restore(cluster, fault)

        assert {answer.status_code for answer in refused} == {503}
        assert median(took) < median(answer.elapsed.total_seconds() for answer in refused) / 2
        eventually(lambda: flags(web, operator).status_code == 200, within=10, what="it heals")

    def test_a_web_process_that_starts_meanwhile_waits_for_it(
        self, cluster: Cluster, operator: str
    ) -> None:
        web = cluster.webs[1]
        web.kill()
        cluster.postgresql.kill()
        try:
            again(web)
            starting = policy(web, operator)
        finally:
            cluster.postgresql.start()

        assert (starting.status_code, starting.headers["Retry-After"]) == (503, "2")
        eventually(lambda: policy(web, operator).status_code == 200, within=10, what="it serves")


class TestWithoutRedis:
    def test_the_worker_goes_on_after_redis_was_away(self, cluster: Cluster, operator: str) -> None:
        """Nobody restarts it: it finds its broker by itself, though it had tasks in hand."""
        worker = cluster.processes["worker"]
        earlier = lost(worker)
        with Switch(cluster.webs[0].url, operator, key="later") as switch:
            switch.engage()
            cluster.postgresql.pause()  # what the worker has in hand hangs
            try:
                eventually(lambda: waiting(cluster) > 1, within=30, what="its hands are full")
                cluster.redis.kill()
                eventually(lambda: lost(worker) > earlier, within=20, what="the worker noticed")
            finally:
                cluster.postgresql.resume()
                cluster.redis.start()
            end_leases(cluster, "later")

            eventually(lambda: still_engaged(cluster, "later") == 0, within=30, what="ended")
        assert all(process.is_running for process in cluster.processes.values())


class TestHealth:
    """Its addresses answer within their deadline, whatever hangs."""

    @pytest.mark.parametrize(
        ("server", "failing"),
        [
            ("postgresql", {"", "/db", "/dependencies", "/services", "/detailed"}),
            ("redis", {"", "/redis", "/celery", "/detailed"}),
        ],
    )
    def test_a_server_that_hangs_is_told_within_the_deadline(
        self, cluster: Cluster, prober: httpx.Client, server: str, failing: set[str]
    ) -> None:
        it = getattr(cluster, server)
        it.pause()
        try:
            # What was found a moment ago is remembered for a second.
            eventually(
                lambda: {path for path in HEALTH if health_of(prober, path)[0] == 503} == failing,
                within=30,
                what="what hangs is told, and nothing else",
            )
            told = {path: health_of(prober, path) for path in HEALTH}
        finally:
            it.resume()

        assert {path: took for path, (_status, took) in told.items() if took > 6} == {}
        for path in HEALTH:
            eventually(
                lambda path=path: health_of(prober, path)[0] == 200,  # type: ignore[misc]  # bound here
                within=40,
                what=f"{path} is well again",
            )


def health_of(client: httpx.Client, path: str) -> tuple[int, float]:
    """Status of an answer, and the seconds it took."""
    answer = client.get(f"/api/v1/health{path}")
    return answer.status_code, answer.elapsed.total_seconds()


def all_obey(clients: list[Client], flag: str) -> bool:
    return all(client.flag(flag).enabled for client in clients)


def none_obeys(clients: list[Client], flag: str) -> bool:
    return not any(client.flag(flag).enabled for client in clients)


def all_stream(clients: list[Client]) -> bool:
    return all(client.stats()["policy"]["streaming"] for client in clients)


def get(web: Process, path: str, token: str = "", **cookies: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"{web.url}{path}", headers=headers, cookies=cookies, timeout=30)


def policy(web: Process, token: str) -> httpx.Response:
    return get(web, f"/api/v1/policies/{SERVICE}", token)


def is_kept(cluster: Cluster, key: str) -> bool:
    """Whether a web process has put a policy with this flag on disk."""
    return key.encode() in (cluster.var / "published.msgpack").read_bytes()


def flags(web: Process, token: str) -> httpx.Response:
    return get(web, "/api/v1/flags", token)


def stale(web: Process, token: str) -> int:
    answer = policy(web, token)
    assert answer.status_code == 200
    return int(answer.headers.get("Policy-Stale", 0))


def convergence(web: Process, token: str) -> tuple[int, int]:
    rows = get(web, "/api/v1/convergence", token).json()["results"]
    return next((row["applied"], row["total"]) for row in rows if row["service"] == SERVICE)


def audited(web: Process, token: str, action: str, label: str) -> list[dict[str, Any]]:
    answer = get(web, f"/api/v1/audit?action={action}&limit=200", token)
    return [each for each in answer.json()["results"] if label in each["object_label"]]


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "5"
    assert answer.json()["code"] == "database_unavailable"


def timed(act: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    started = time.monotonic()
    return act(), time.monotonic() - started


def end_leases(cluster: Cluster, keys: str) -> None:
    with psycopg.connect(cluster.postgresql.url) as connection:
        connection.execute(
            "UPDATE degradation_flag SET set_at = now() - interval '1 hour', "
            "expires_at = now() - interval '1 second' WHERE key LIKE %s AND enabled",
            (keys,),
        )


def still_engaged(cluster: Cluster, keys: str) -> int:
    with psycopg.connect(cluster.postgresql.url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM degradation_flag WHERE key LIKE %s AND enabled", (keys,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def restore(cluster: Cluster, fault: str) -> None:
    if fault == "pause":
        cluster.postgresql.resume()
    else:
        cluster.postgresql.start()


def waiting(cluster: Cluster) -> int:
    """Tasks that the worker has not taken."""
    with Redis.from_url(cluster.redis.url) as connection:
        return int(connection.llen("celery"))


def lost(worker: Process) -> int:
    """How often it has said that its broker is away, in either way Celery says it."""
    return worker.log.count("Connection to broker lost") + worker.log.count("Cannot connect to")


def kill_all(process: Process) -> None:
    """The process and its children at once, as the kernel does to a container."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in tree:
        each.send_signal(signal.SIGSTOP)
    for each in tree:
        each.kill()
    process.kill()


def again(process: Process) -> None:
    process.start()
    process.wait_until_up()
