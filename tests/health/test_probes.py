"""Each probe against its real server: answering, stopped, hung and back; and what it notices."""

import http.server
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest
from celery.contrib.testing.worker import start_worker
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kombu import Connection
from redis import Redis as RedisClient

from apps.core import clock
from apps.health import rules
from apps.health.prober import Prober
from apps.health.probes.outcomes import Outcome
from apps.health.targets import Target
from deploy.local_servers import LocalServer, PostgreSQL, RabbitMQ, Redis
from tests.health.shop import TASK, shop
from tests.health.slow import slow

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 1.0  # seconds, of most probes here
GRACE = 1.0  # seconds by which a busy machine may be late
prober = Prober()


def ask(kind: str, url: str, *, timeout: float = TIMEOUT, **options: Any) -> Outcome:
    """What comes of a probe, within its timeout or the test fails."""
    parts = urlsplit(url)
    place = f"{parts.username or ''}@{parts.hostname}:{parts.port}".removeprefix("@")
    address = urlunsplit((parts.scheme, place, parts.path, parts.query, ""))
    target = Target(kind, address, parts.password or "", options, timeout)
    return prober.submit(target).result(timeout=timeout + GRACE)


BODIES = {
    "fine": b'{"status": "ok", "parts": [{"up": true, "queue": 0}]}',
    "lying": b'{"status": "error", "parts": [{"up": false, "queue": 1}]}',
    "page": b"<h1>It works</h1>",
    "endless": b"x" * 300_000 + b"the end",
    "deep": b"[" * 100_000,
}


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names, and the body or place after `?`; /slow never."""

    hung: ClassVar = threading.Event()
    seen: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization", "")))
        place = urlsplit(self.path)
        if place.path == "/slow":
            self.hung.wait(30)
            return
        body = BODIES.get(place.query, b"")
        self.send_response(int(place.path.strip("/")))
        self.send_header("Location", place.query or "http://169.254.169.254/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Site.hung.set()
        server.shutdown()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A site whose certificate signed itself and ends in ten days."""
    where = tmp_path_factory.mktemp("certificate")
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(clock.now() - timedelta(days=1))
        .not_valid_after(clock.now() + timedelta(days=10, minutes=5))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, unlocked = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    both = key.private_bytes(pem, form, unlocked) + made.public_bytes(pem)
    (where / "both.pem").write_bytes(both)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(where / "both.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module", params=[("postgresql", PostgreSQL), ("redis", Redis)])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, LocalServer]]:
    """One of our own, for it is stopped and hung."""
    kind, make = request.param
    with make() as started:
        yield kind, started


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as started:
        yield started


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with Redis() as started:
        yield started


class TestFaults:
    def test_answering_hung_back_stopped_and_back(self, server: tuple[str, LocalServer]) -> None:
        kind, it = server
        assert ask(kind, it.url).is_ok

        it.pause()
        hung = ask(kind, it.url)
        it.resume()
        back = ask(kind, it.url, timeout=10)
        it.stop(keep=True)
        stopped = ask(kind, it.url)
        it.start()
        again = ask(kind, it.url, timeout=10)

        assert (hung.mark, back.mark) == (rules.FAILED, rules.OK)
        assert (stopped.mark, again.mark) == (rules.FAILED, rules.OK)
        assert "refused" in stopped.detail
        assert "no answer" in hung.detail

    def test_a_slow_one_is_impaired_and_one_too_slow_has_failed(
        self, server: tuple[str, LocalServer]
    ) -> None:
        kind, it = server

        with slow(it.url, 0.05) as url:
            late = ask(kind, url, timeout=10).slower_than(0.05)
        with slow(it.url, 30) as url:
            never = ask(kind, url)

        assert (late.mark, never.mark) == (rules.IMPAIRED, rules.FAILED)
        assert "slow: " in late.detail
        assert "no answer" in never.detail

    def test_a_wrong_password_is_told_without_it(self, server: tuple[str, LocalServer]) -> None:
        kind, it = server

        found = ask(kind, it.url.replace(it.password, "wr0ng"))

        assert "password" in found.detail
        assert "wr0ng" not in found.detail


def put(url: str, queue: str, *, messages: int) -> None:
    with Connection(url) as connection, connection.SimpleQueue(queue) as buffer:
        for number in range(messages):
            buffer.put(number)


def raise_alarm(server: RabbitMQ) -> None:
    """Have it find, until it is started anew, that its disk is short."""
    inner = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
    program = inner if inner.exists() else shutil.which("rabbitmqctl")
    assert program is not None
    command = [program, "set_disk_free_limit", "900000GB"]
    subprocess.run(command, env=server.environment, check=True, stdout=subprocess.DEVNULL)


class TestRabbitMQ:
    def test_answering_hung_back_stopped_and_back(self) -> None:
        with RabbitMQ() as it:
            fine = ask("rabbitmq", it.url, timeout=10)
            it.pause()
            hung = ask("rabbitmq", it.url)
            it.resume()
            back = ask("rabbitmq", it.url, timeout=10)
            missing = ask("rabbitmq", it.url, timeout=10, queue="no-such-queue")
            wrong = ask("rabbitmq", it.url.replace(it.password, "wr0ng"), timeout=10)
            nobody = ask("celery", it.url, timeout=5)
            with worker(it.url):
                ran = ask("celery", it.url, timeout=10, task=TASK)
                idle = ask("celery", it.url, timeout=2, task="no.such.task")
            put(it.url, "deep", messages=3)
            deep = ask("rabbitmq", it.url, timeout=10, queue="deep", most_waiting=2)
            alone = ask("rabbitmq", it.url, timeout=10, queue="deep", fewest_consumers=1)
            allowed = ask("rabbitmq", it.url, timeout=10, queue="deep", most_waiting=3)
            raise_alarm(it)
            full = ask("rabbitmq", it.url, timeout=4)
            it.kill()
            stopped = ask("rabbitmq", it.url)
            no_broker = ask("celery", it.url)
            it.start()
            again = ask("rabbitmq", it.url, timeout=10)

        assert [each.mark for each in (fine, back, ran, again)] == [rules.OK] * 4, (ran, back)
        assert [each.mark for each in (deep, alone)] == [rules.IMPAIRED] * 2
        assert "3 messages wait, more than 2" in deep.detail
        assert "0 consumers, fewer than 1" in alone.detail
        assert allowed.is_ok
        assert allowed.facts["queue_length"] == 3
        assert "alarm" in full.detail
        assert "no answer" in hung.detail
        assert "no such queue" in missing.detail
        assert "password" in wrong.detail
        assert "no such queue" in nobody.detail  # no worker has made it yet
        assert "no worker ran" in idle.detail
        assert ["refused" in each.detail for each in (stopped, no_broker)] == [True, True]


class TestPostgreSQL:
    def test_it_tells_what_it_saw(self, postgresql: PostgreSQL) -> None:
        found = ask("postgresql", postgresql.url, timeout=10)

        assert found.facts["is_standby"] is False
        assert found.facts["max_connections"] == 300
        assert {"resolve", "connect", "read", "write"} == found.facts["phases"].keys()

    def test_the_write_probe_notices_a_server_that_only_reads(self, postgresql: PostgreSQL) -> None:
        with psycopg.connect(postgresql.url, autocommit=True) as base:
            base.execute("ALTER ROLE holdfast SET default_transaction_read_only = on")

        with_write = ask("postgresql", postgresql.url, timeout=10)
        without = ask("postgresql", postgresql.url, timeout=10, write_probe=False)

        with psycopg.connect(postgresql.url, autocommit=True) as base:
            base.execute("SET default_transaction_read_only = off")
            base.execute("ALTER ROLE holdfast RESET default_transaction_read_only")
        assert (with_write.mark, without.mark) == (rules.FAILED, rules.OK)
        assert "read-only" in with_write.detail

    def test_the_write_probe_leaves_nothing_behind(self, postgresql: PostgreSQL) -> None:
        ask("postgresql", postgresql.url, timeout=10)

        with psycopg.connect(postgresql.url) as base:
            found = base.execute("SELECT count(*) FROM pg_class WHERE relname = 'holdfast_check'")
            assert found.fetchone() == (0,)

    def test_a_database_that_is_not_there(self, postgresql: PostgreSQL) -> None:
        url = postgresql.url.removesuffix("holdfast") + "nothing"

        assert "no such database" in ask("postgresql", url, timeout=10).detail


class TestRedis:
    def test_a_replica_that_only_reads_is_noticed(self, redis: Redis) -> None:
        with RedisClient.from_url(redis.url) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            found = ask("redis", redis.url, timeout=10)
            without = ask("redis", redis.url, timeout=10, write_probe=False)
            client.execute_command("REPLICAOF", "NO", "ONE")

        assert (found.mark, without.mark) == (rules.FAILED, rules.OK)
        assert "read-only" in found.detail

    def test_its_key_ends_by_itself(self, redis: Redis) -> None:
        ask("redis", redis.url, timeout=10)

        with RedisClient.from_url(redis.url) as client:
            assert 0 < client.ttl("holdfast:check:0") <= 60


def worker(url: str) -> Any:
    """A worker of the shop in a thread."""
    return start_worker(shop(url), perform_ping_check=False, pool="solo", shutdown_timeout=20)


@contextmanager
def worker_process(url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker of the shop that can be hung and killed."""
    command = [sys.executable, "-m", "celery", "--app", "tests.health.shop", "worker"]
    process = subprocess.Popen(
        [*command, "--pool", "solo", "--loglevel", "CRITICAL", "--without-gossip"],
        cwd=ROOT,
        env=os.environ | {"SHOP_BROKER": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class TestCeleryThroughRedis:
    def test_with_a_worker_and_without(self, redis: Redis) -> None:
        nobody = ask("celery", redis.url, timeout=1)
        with worker(redis.url):
            ran = ask("celery", redis.url, timeout=10, task=TASK)
            again = ask("celery", redis.url, timeout=10, task=TASK)
        redis.pause()
        hung = ask("celery", redis.url)
        redis.resume()

        assert "no worker ran" in nobody.detail
        assert [each.mark for each in (ran, again)] == [rules.OK, rules.OK], ran
        assert hung.mark == rules.FAILED

    def test_a_worker_that_hangs_comes_back_and_dies_is_noticed(self, redis: Redis) -> None:
        with worker_process(redis.url) as process:
            started = ask("celery", redis.url, timeout=30, task=TASK)
            process.send_signal(signal.SIGSTOP)
            hung = ask("celery", redis.url, task=TASK)
            process.send_signal(signal.SIGCONT)
            back = ask("celery", redis.url, timeout=10, task=TASK)
            process.kill()
            process.wait()
            dead = ask("celery", redis.url, task=TASK)

        assert [each.mark for each in (started, back)] == [rules.OK, rules.OK], (started, back)
        assert [each.mark for each in (hung, dead)] == [rules.FAILED, rules.FAILED]
        assert ["no worker ran" in each.detail for each in (hung, dead)] == [True, True]

    def test_workers_that_are_busy_with_others_tasks_are_slow_and_not_down(
        self, redis: Redis
    ) -> None:
        with RedisClient.from_url(redis.url) as client:
            client.lpush("busy", "first", "second", "third")
            idle = ask("celery", redis.url, queue="busy")
            taken = threading.Timer(0.3, client.rpop, ["busy"])  # as a worker takes the next
            taken.start()
            busy = ask("celery", redis.url, queue="busy")
            taken.join()
            left = client.lrange("busy", 0, -1)

        assert (idle.mark, busy.mark) == (rules.FAILED, rules.IMPAIRED)
        assert "behind 3 in busy" in busy.detail
        assert left == [b"third", b"second"]  # and no canary

    def test_what_no_worker_took_is_taken_back(self, redis: Redis) -> None:
        ask("celery", redis.url, timeout=0.5, queue="mine")

        with RedisClient.from_url(redis.url) as client:
            assert client.llen("mine") == 0


class TestHTTP:
    @pytest.mark.parametrize(
        ("path", "options", "mark"),
        [
            ("200", {}, rules.OK),
            ("204", {"method": "GET"}, rules.OK),
            ("500", {}, rules.FAILED),
            ("302", {}, rules.FAILED),  # followed nowhere
            ("302", {"expected_status": "200-399"}, rules.OK),
            ("401", {"expected_status": "401"}, rules.OK),
        ],
    )
    def test_by_status(self, site: str, path: str, options: dict[str, Any], mark: str) -> None:
        found = ask("http", f"{site}/{path}", timeout=10, **options)

        assert found.mark == mark
        assert (path in found.detail) == (mark == rules.FAILED)

    def test_phases_are_told_apart(self, site: str) -> None:
        found = ask("http", f"{site}/200", timeout=10)

        phases = found.facts["phases"]
        assert {"resolve", "connect", "first_byte"} == phases.keys()
        assert found.latency == pytest.approx(sum(phases.values()), abs=0.05)

    @pytest.mark.parametrize(
        ("body", "options", "said"),
        [
            ("fine", {"body_contains": '"ok"', "body_lacks": "error"}, ""),
            ("fine", {"json_path": "status", "json_equals": "ok"}, ""),
            ("fine", {"json_path": "parts.0.up", "json_equals": True}, ""),
            ("fine", {"json_path": "parts"}, ""),  # there, whatever it is
            ("lying", {"body_contains": '"ok"'}, "no “"),
            ("lying", {"body_lacks": "error"}, "has “error”"),
            ("lying", {"json_path": "status", "json_equals": "ok"}, "else than"),
            ("lying", {"json_path": "parts.0.queue", "json_equals": True}, "else than"),
            ("lying", {"json_path": "parts.1.up"}, "nothing at"),
            ("page", {"json_path": "status"}, "not JSON"),
            ("deep", {"json_path": "0"}, "not JSON"),
            ("endless", {"body_contains": "the end"}, "no “the end”"),
            ("endless", {"body_lacks": "error"}, "longer than the 256 KiB"),
        ],
    )
    def test_200_with_an_error_in_its_body_is_noticed(
        self, site: str, body: str, options: dict[str, Any], said: str
    ) -> None:
        found = ask("http", f"{site}/200?{body}", timeout=10, **options)

        assert found.is_ok == (not said), found
        assert said in found.detail

    def test_days_until_the_certificate_ends_are_told(self, encrypted: str) -> None:
        unverified = {"verify_certificate": False}
        short = ask("http", f"{encrypted}/200", timeout=10, **unverified)
        enough = ask("http", f"{encrypted}/200", timeout=10, certificate_days=10, **unverified)
        verified = ask("http", f"{encrypted}/200", timeout=10)

        assert (short.mark, enough.mark, verified.mark) == (rules.IMPAIRED, rules.OK, rules.FAILED)
        assert "ends in 10 days, fewer than 14" in short.detail
        assert enough.facts["certificate_days_left"] == pytest.approx(10, abs=0.1)
        assert {"resolve", "connect", "tls", "first_byte"} == enough.facts["phases"].keys()
        assert "certificate is not valid" in verified.detail

    def test_a_redirect_to_what_is_not_encrypted_is_refused(
        self, encrypted: str, site: str
    ) -> None:
        options = {"verify_certificate": False, "follow_redirects": 1}

        found = ask("http", f"{encrypted}/302?{site}/200", timeout=10, **options)

        assert "not encrypted" in found.detail

    def test_redirects_are_followed_as_often_as_allowed(self, site: str) -> None:
        there = f"{site}/302?/302?/200"

        found = [ask("http", there, timeout=10, follow_redirects=most) for most in (0, 1, 2)]

        assert [each.facts.get("http_status") for each in found] == [None, None, 200]

    def test_a_redirect_to_metadata_is_refused(self, site: str) -> None:
        found = ask("http", f"{site}/302", timeout=10, follow_redirects=5)

        assert "redirects where no check may go" in found.detail
        assert "metadata" in found.detail

    def test_a_redirect_to_another_place_gets_no_secret(self, site: str) -> None:
        there = site.replace("127.0.0.1", "localhost")
        address = f"{site}/302?{there}/204"

        Site.seen.clear()
        options = {"follow_redirects": 1}
        prober.submit(Target("http", address, "tok", options, 10)).result(timeout=11)

        assert [sent for _path, sent in Site.seen] == ["Bearer tok", ""]

    def test_one_that_never_answers_ends_at_the_deadline(self, site: str) -> None:
        assert "no answer" in ask("http", f"{site}/slow", timeout=0.3).detail

    def test_a_secret_is_a_bearer_token_or_a_password(self, site: str) -> None:
        for address in (f"{site}/200", f"http://ana@{site.removeprefix('http://')}/200"):
            prober.submit(Target("http", address, "tok", {}, 10)).result(timeout=11)

        sent = [header.partition(" ")[0] for _path, header in Site.seen[-2:]]
        assert sent == ["Bearer", "Basic"]

    def test_a_name_that_leads_to_metadata_is_not_followed(self) -> None:
        found = prober.submit(Target("http", "http://169.254.169.254/", "", {}, 5)).result(6)

        assert "metadata" in found.detail

    def test_a_name_nobody_knows(self) -> None:
        name = quote("no..such..name")

        assert "not known" in ask("http", f"http://{name}:80/", timeout=10).detail


class TestTCP:
    def test_listening_and_not(self, site: str) -> None:
        port = urlsplit(site).port
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            nobody = ask("tcp", f"tcp://127.0.0.1:{closed.getsockname()[1]}")

        assert ask("tcp", f"tcp://127.0.0.1:{port}", timeout=10).is_ok
        assert "refused" in nobody.detail
