"""Forks and ends of processes, in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.tests.client.server import Fault, PolicyServer
from sdk.tests.client.world import TOKEN, document, eventually, flag

WARNINGS = (
    *("-W", "error"),
    # What Python says, since 3.12, of what these tests are about.
    *("-W", "ignore:This process:DeprecationWarning"),
)
SETUP = """
import json, os, sys, threading, time
from holdfast import Holdfast
from holdfast._settings import Timing

hf = Holdfast(timing=Timing(poll_seconds=0.05, report_seconds=0.05, backoff_seconds=0.05))

def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("it did not happen in time")
        time.sleep(0.005)
"""


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        server.publish(document(1, flags={"read-only": flag()}))
        yield server


@pytest.fixture
def environ(server: PolicyServer, tmp_path: Path) -> dict[str, str]:
    # Measured by coverage, a child that is forked while another thread runs may wait for ever for
    # a lock of coverage's own.
    inherited = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    return {
        **inherited,
        "HOLDFAST_URL": server.url,
        "HOLDFAST_TOKEN": TOKEN,
        "HOLDFAST_SERVICE": "checkout",
        "HOLDFAST_CACHE_DIR": str(tmp_path),
    }


def run(code: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *WARNINGS, "-c", SETUP + code],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestFork:
    def test_a_child_is_an_instance_of_its_own_with_threads_of_its_own(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        done = run(
            """
hf.start(wait=10)
until(lambda: hf.stats()["policy"]["streaming"])
hf.call("db", len, "abc")
mine = hf.stats()["instance"]
child = os.fork()
if child == 0:
    inherited = (hf.stats()["instance"] != mine, hf.stats()["policy"], threading.active_count())
    calls = hf.stats()["dependencies"]["db"]["calls"]
    print("child before use", inherited, calls, flush=True)
    print("child read_only", hf.read_only, flush=True)
    until(lambda: hf.stats()["policy"]["streaming"])
    hf.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("parent", hf.stats()["instance"] == mine, hf.read_only, flush=True)
hf.close()
""",
            environ,
        )

        assert done.returncode == 0, done.stderr
        assert "child before use (True, None, 1) 0" in done.stdout
        assert "child read_only True" in done.stdout
        assert "parent True True" in done.stdout
        reported = {(report["instance"], report["sequence"]) for report in server.reports}
        assert len({instance for instance, _ in reported}) == 2
        assert all((instance, 1) in reported for instance, _ in reported)

    @pytest.mark.parametrize("imported", ["httpx", "httpcore"])
    def test_a_child_forked_while_the_http_client_was_being_imported_gets_policies_all_the_same(
        self, environ: dict[str, str], imported: str
    ) -> None:
        done = run(
            f"imported = '{imported}'\n"
            """
begun, may_end = threading.Event(), threading.Event()

class Slowly:
    def find_spec(self, name, path=None, target=None):
        if name == imported:
            begun.set()
            may_end.wait(10)

sys.meta_path.insert(0, Slowly())
hf.start()
begun.wait(10)
threading.Timer(0.2, may_end.set).start()
child = os.fork()
if child == 0:
    until(lambda: hf.read_only)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
hf.close()
""",
            environ,
        )

        assert done.returncode == 0, done.stderr

    def test_a_child_that_returns_through_its_parents_call_reports_no_less_than_nothing(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        done = run(
            """
hf.start(wait=10)
child = hf.call("db", os.fork)
if child == 0:
    hf.call("db", len, "abc")
    stats = hf.stats()["dependencies"]["db"]
    print("child", stats["calls"], stats["in_flight"], flush=True)
    hf.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
stats = hf.stats()["dependencies"]["db"]
print("parent", stats["calls"], stats["in_flight"], flush=True)
hf.close()
""",
            environ,
        )

        assert done.returncode == 0, done.stderr
        assert done.stdout == "child 1 0\nparent 1 0\n"
        found = [one["dependencies"].get("db", {}).get("in_flight", 0) for one in server.reports]
        assert min(found) == 0

    def test_a_child_keeps_the_policy_though_server_and_disk_are_gone(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        server.faults = [None, *[Fault("status", 500)] * 10_000]
        server.stream_faults = [Fault("status", 500)] * 10_000

        done = run(
            """
import shutil
hf.start(wait=10)
child = os.fork()
if child == 0:
    shutil.rmtree(os.environ["HOLDFAST_CACHE_DIR"], ignore_errors=True)
    print("child", hf.read_only, hf.stats()["policy"]["revision"], flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
            environ,
        )

        assert done.returncode == 0, done.stderr
        assert "child True 1" in done.stdout

    def test_forking_while_policies_change_and_calls_run_never_locks_a_child_up(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        """Children are forked while every lock of the parent is in use."""
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                SETUP
                + """
hf.start(wait=10)
stop = threading.Event()
def busy():
    while not stop.is_set():
        hf.call("db", len, "abc"), hf.read_only, hf.count_request(200, 0.1)
threads = [threading.Thread(target=busy, daemon=True) for _ in range(4)]
[thread.start() for thread in threads]
for _ in range(25):
    child = os.fork()
    if child == 0:
        hf.call("db", len, "abc"), hf.read_only, hf.count_request(200, 0.1)
        hf.stats()
        hf.close()
        os._exit(0)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
            sys.exit("a child hangs")
        time.sleep(0.002)
    assert ended[1] == 0, ended
stop.set()
print("done", flush=True)
""",
            ],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        revision = 1
        while process.poll() is None:
            revision += 1
            server.publish(document(revision, dependencies={"db": {}}), push=True)
            time.sleep(0.002)  # a pace of publishing, not a wait for anything

        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, "done\n"), errors

    def test_multiprocessing_children_report_as_instances_of_their_own(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        done = run(
            """
import multiprocessing

def work(number):
    hf.call("db", len, "abc")
    until(lambda: hf.stats()["policy"] and hf.stats()["policy"]["reports"]["accepted"])
    return hf.stats()["instance"]

hf.start(wait=10)
with multiprocessing.get_context("fork").Pool(2) as pool:
    instances = set(pool.map(work, range(4), chunksize=1))
print(len(instances - {hf.stats()["instance"]}) >= 1, flush=True)
hf.close()
""",
            environ,
        )

        assert done.returncode == 0, done.stderr
        assert "True" in done.stdout


class TestExit:
    def test_the_end_of_a_process_says_goodbye_without_a_close(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        done = run("hf.start(wait=10)", environ)

        assert (done.returncode, done.stderr) == (0, "")
        assert server.last_report["stopping"] is True

    @pytest.mark.parametrize("faulty", ["report_faults", "faults", "stream_faults"])
    def test_a_hanging_server_does_not_hold_the_end(
        self, server: PolicyServer, environ: dict[str, str], faulty: str
    ) -> None:
        getattr(server, faulty).extend([Fault("hang")] * 1_000)
        code = "hf.start(); until(lambda: hf.stats()['policy'] is not None); time.sleep(0.2)"

        started = time.monotonic()
        done = run(code, environ)

        assert (done.returncode, done.stderr) == (0, "")
        assert time.monotonic() - started < 15.0

    def test_a_dead_server_does_not_hold_the_end(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        server.kill()

        done = run("hf.start(wait=0.1)", environ)

        assert done.returncode == 0
        assert "Traceback" not in done.stderr

    def test_an_unhandled_error_ends_the_process_as_ever(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        done = run("hf.start(wait=10); raise SystemExit(7)", environ)

        assert done.returncode == 7


LETTERS = """
timing = Timing(
    poll_seconds=0.05, report_seconds=0.05, backoff_seconds=0.05, backoff_max_seconds=0.1,
    adopt_seconds=0.05, claim_wait_seconds=0.2, claim_gap_seconds=0.05,
)
hf = Holdfast(timing=timing)
"""


def started(code: str, environ: dict[str, str]) -> "subprocess.Popen[str]":
    """A process that has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, *WARNINGS, "-c", SETUP + LETTERS + code],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline(), "it died early"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate(timeout=30)


class TestDeadLetters:
    def test_processes_killed_between_capture_and_delivery_lose_nothing(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        """Two processes of one service, killed at once while Holdfast is away."""
        server.letter_faults = [Fault("status", 503)] * 100_000
        code = """
me = sys.argv[1] if len(sys.argv) > 1 else str(os.getpid())
for number in range(150):
    assert hf.dead_letter("charge", [me, number], idempotency_key=f"{me} {number}")
print("captured", flush=True)
time.sleep(60)
"""
        for process in [started(code, environ) for _ in range(2)]:
            kill(process)
        assert not server.desk.letters
        server.letter_faults = []

        heir = started("hf.start(); print('up', flush=True); time.sleep(60)", environ)
        eventually(lambda: len(server.desk.letters) == 300, seconds=30)

        kill(heir)
        assert len(server.desk.failures) == 300

    def test_a_child_delivers_its_own_and_the_parents_stay_the_parents(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        server.letter_faults = [Fault("status", 503)] * 3

        done = run(
            LETTERS
            + """
assert hf.dead_letter("charge", "parent")
child = os.fork()
if child == 0:
    assert hf.dead_letter("charge", "child")
    hf.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
until(lambda: hf.stats()["dead_letters"]["accepted"])
hf.close()
""",
            environ,
        )

        assert done.returncode == 0, done.stderr
        last = started("hf.start(); print('up', flush=True); time.sleep(60)", environ)
        eventually(lambda: len(server.desk.letters) == 2)
        kill(last)
        assert len(server.desk.failures) == 2

    def test_a_process_killed_after_its_handler_ran_confirms_through_the_next_and_once(
        self, server: PolicyServer, environ: dict[str, str]
    ) -> None:
        server.outcome_faults = [Fault("status", 503)] * 100_000
        code = """
@hf.redrives("charge")
def charge(letter):
    print("ran", letter.id, flush=True)
hf.start()
time.sleep(60)
"""
        server.desk.offer(1, "charge", {})
        first = started(code, environ)
        eventually(lambda: server.requests("/outcomes", "POST"))
        kill(first)
        server.outcome_faults = []
        server.desk.offer(2, "charge", {})

        second = started(code, environ)
        eventually(lambda: server.desk.outcomes("resolved") == [1, 2])

        second.kill()
        assert second.communicate(timeout=30)[0] == ""  # "ran 2" was its first line, and its last


def test_instances_of_one_service_share_a_cache_directory(
    server: PolicyServer, environ: dict[str, str], tmp_path: Path
) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SETUP + "hf.start(wait=10); time.sleep(0.3)"], env=environ
        )
        for _ in range(3)
    ]

    assert [process.wait(60) for process in processes] == [0, 0, 0]

    eventually(lambda: len(list(tmp_path.iterdir())) == 1)
