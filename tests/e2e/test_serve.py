"""`manage.py serve` as one process, embedded: streams over real sockets, signals, commands."""

import json
import os
import resource
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from apps.delivery.state import SCAN_SECONDS
from tests.e2e.doors import Listener, Switch
from tests.e2e.processes import NOT_OURS, ROOT, Holdfast, eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    with Holdfast(tmp_path_factory.mktemp("holdfast")) as started:
        yield started


@pytest.fixture(scope="module")
def operator(server: Holdfast) -> str:
    return server.token("flags:write", "config:read", "tokens:write")


@pytest.fixture(scope="module")
def reader(server: Holdfast) -> str:
    return server.token("policies:read")


class TestStream:
    def test_a_flip_reaches_the_socket_by_news_long_before_the_scan(
        self, server: Holdfast, operator: str, reader: str
    ) -> None:
        with (
            Switch(server.url, operator, service=_service(server, "fast")) as switch,
            Listener(server.url, reader, "fast") as stream,
        ):
            stream.event("hello")
            stream.event("document")
            delays = []
            for turn in [switch.engage, switch.end] * 5:
                turn()
                answered = time.monotonic()
                stream.event("changed")
                delays.append(time.monotonic() - answered)

        assert statistics.median(delays) < SCAN_SECONDS / 4

    def test_bases_form_a_chain_that_ends_at_the_document(
        self, server: Holdfast, operator: str, reader: str
    ) -> None:
        with (
            Switch(server.url, operator, service=_service(server, "chain")) as switch,
            Listener(server.url, reader, "chain") as stream,
        ):
            stream.event("hello")
            revision = stream.event("document")["meta"]["revision"]
            for turn in [switch.engage, switch.end, switch.engage]:
                turn()
                change = stream.event("changed")
                assert change["base"] == revision
                revision = change["revision"]

        polled = _document(server, reader, "chain")
        assert (polled.json()["meta"]["revision"], polled.headers["ETag"]) == (
            revision,
            change["etag"],
        )
        assert polled.json()["flags"] == change["changed"]["flags"]

    def test_last_event_id_spares_the_document(
        self, server: Holdfast, operator: str, reader: str
    ) -> None:
        meta = _document(server, reader, "spared").json()["meta"]
        current = f"{meta['epoch']}:{meta['revision']}"
        _service(server, "spared")

        with (
            Switch(server.url, operator, service="spared") as switch,
            Listener(server.url, reader, "spared", headers={"Last-Event-ID": current}) as stream,
        ):
            stream.event("hello")
            switch.engage()

            assert stream.event("changed")["base"] == meta["revision"]

    def test_a_change_of_one_service_sends_nothing_to_another(
        self, server: Holdfast, operator: str, reader: str
    ) -> None:
        with (
            Switch(server.url, operator, service=_service(server, "mine")) as mine,
            Switch(server.url, operator, service=_service(server, "theirs")) as theirs,
            Listener(server.url, reader, "mine") as stream,
        ):
            stream.event("hello")
            base = stream.event("document")["meta"]["revision"]
            theirs.engage()
            theirs.end()
            mine.engage()

            assert stream.event("changed")["base"] == base

    def test_a_revoked_token_is_cut_and_refused_within_two_seconds(
        self, server: Holdfast, operator: str
    ) -> None:
        asked = {"name": "to be revoked", "scopes": ["policies:read"]}
        with httpx.Client(headers={"Authorization": f"Bearer {operator}"}) as http:
            other = server.token("policies:read", "tokens:write")
            made = http.post(f"{server.url}/api/v1/tokens", json=asked, headers=_bearer(other))
            assert made.status_code == 201, made.text
            with Listener(server.url, made.json()["token"]) as stream:
                stream.event("hello")
                stream.event("document")
                revoked = http.post(
                    f"{server.url}/api/v1/tokens/{made.json()['id']}/end",
                    json={"reason": "leaked"},
                    headers={"If-Match": made.headers["ETag"]},
                )
                assert revoked.status_code == 200, revoked.text
                started = time.monotonic()
                assert stream.event("goodbye")["reason"] == "revoked"
                assert stream.is_over
                assert time.monotonic() - started < 2.0

        assert _document(server, made.json()["token"]).status_code == 401

    def test_the_sixth_stream_of_an_instance_is_refused(
        self, server: Holdfast, reader: str
    ) -> None:
        with ExitStack() as stack:
            headers = {"Holdfast-Instance": "one-and-the-same"}
            for _ in range(5):
                listener = Listener(server.url, reader, headers=headers)
                stack.enter_context(listener).event("hello")
            sixth = stack.enter_context(Listener(server.url, reader, headers=headers)).response

            assert (sixth.status_code, sixth.headers["Retry-After"]) == (429, "15")


class TestRequests:
    @pytest.mark.parametrize("given", ["a b", "x" * 65, "é", "<script>", "", "a\tb"])
    def test_a_malformed_request_id_is_replaced(self, server: Holdfast, given: str) -> None:
        answer = httpx.get(
            f"{server.url}/api/v1/health/live", headers={b"X-Request-ID": given.encode()}
        )

        assert answer.headers["X-Request-ID"] != given
        assert len(answer.headers["X-Request-ID"]) == 32

    def test_a_well_formed_request_id_is_kept_and_logged(self, server: Holdfast) -> None:
        given = "deploy-42.step_7"

        answer = httpx.get(f"{server.url}/api/v1/nowhere", headers={"X-Request-ID": given})

        assert answer.headers["X-Request-ID"] == given
        assert given in {line.get("request_id") for line in _log(server)}

    def test_every_answer_has_one_date(self, server: Holdfast, reader: str) -> None:
        answers = [
            httpx.get(f"{server.url}/api/v1/health/ready"),
            _document(server, reader),
            httpx.get(f"{server.url}/static/nothing.css"),
        ]

        assert [len(answer.headers.get_list("Date")) for answer in answers] == [1, 1, 1]

    def test_a_celery_task_runs_inside(self, server: Holdfast) -> None:
        assert any(line.get("event") == "celery.started" for line in _log(server))

    def test_no_token_is_in_the_log(self, server: Holdfast, reader: str) -> None:
        _document(server, reader)

        assert reader.rpartition("_")[2] not in server._log.read_text()


class TestStopping:
    def test_sigterm_says_goodbye_to_200_streams_and_exits_with_0(self, tmp_path: Path) -> None:
        with Holdfast(tmp_path) as server, ExitStack() as stack:
            token = server.token("policies:read")
            listeners = [
                stack.enter_context(
                    Listener(server.url, token, headers={"Holdfast-Instance": f"instance-{number}"})
                )
                for number in range(200)
            ]
            for listener in listeners:
                listener.event("hello")
                listener.event("document")
            started = time.monotonic()
            server._process.send_signal(signal.SIGTERM)
            goodbyes = [listener.event("goodbye") for listener in listeners]
            code = server._process.wait(20)
            took = time.monotonic() - started

        waits = [goodbye["retry_after_seconds"] for goodbye in goodbyes]
        assert {goodbye["reason"] for goodbye in goodbyes} == {"draining"}
        assert max(waits) - min(waits) > 2.0  # so that they do not all come back at once
        assert (code, took < 10.0) == (0, True)

    def test_ctrl_c_stops_in_order_too(self, tmp_path: Path) -> None:
        with Holdfast(tmp_path) as server:
            server._process.send_signal(signal.SIGINT)

            assert server._process.wait(20) == 0
        assert "Traceback" not in server._log.read_text()


class TestStarting:
    def test_no_request_is_refused_with_401_while_it_starts(self, tmp_path: Path) -> None:
        """A client that knocks from the first moment on sees 503 and then its policy."""
        server = Holdfast(tmp_path)
        token = server.token("policies:read")
        seen: list[int] = []
        server.answers = lambda: _knock(server, token, seen)  # type: ignore[method-assign]  # asks more than the port
        with server:
            eventually(lambda: _knock(server, token, seen), within=10, what="a policy")

        assert set(seen) <= {200, 503}
        assert seen[-1] == 200

    @pytest.mark.parametrize(
        ("environment", "check", "hint"),
        [
            ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "holdfast.E001", "DATABASE_URL"),
            (
                {"DATABASE_URL": "postgresql://h@127.0.0.1:1/h", "SECRET_KEY": "x" * 50},
                "holdfast.E002",
                "REDIS_URL",
            ),
            ({"CELERY_BROKER_URL": "redis://127.0.0.1:1/1"}, "holdfast.E003", "CELERY_BROKER_URL"),
            (
                {
                    "DATABASE_URL": "postgresql://h@127.0.0.1:1/h",
                    "REDIS_URL": "redis://127.0.0.1:1/0",
                },
                "holdfast.E004",
                "SECRET_KEY",
            ),
        ],
    )
    def test_half_set_configurations_are_refused_with_a_hint(
        self, tmp_path: Path, environment: dict[str, str], check: str, hint: str
    ) -> None:
        own = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
        own.pop("SECRET_KEY", None)
        done = subprocess.run(
            [sys.executable, "manage.py", "serve", "--no-static", "--port", "0"],
            cwd=ROOT,
            env=own | {"HOLDFAST_VAR": str(tmp_path)} | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert done.returncode == 1
        assert check in done.stderr
        assert f"HINT: {hint}" in done.stderr.replace("Unset ", "").replace("Set ", "")
        assert "Traceback" not in done.stderr

    def test_a_port_that_is_taken_is_told_with_another_to_choose(self, tmp_path: Path) -> None:
        taken = Holdfast(tmp_path)
        with socket.create_server(("127.0.0.1", taken.port)):
            done = serve_once(taken)

        assert done.returncode == 1
        assert f"Cannot listen on 127.0.0.1:{taken.port}" in done.stderr
        assert "--port 9000" in done.stderr
        assert "Traceback" not in done.stderr

    def test_an_audit_log_that_could_be_changed_is_not_served(self, tmp_path: Path) -> None:
        server = Holdfast(tmp_path)
        with closing(sqlite3.connect(tmp_path / "holdfast.sqlite3")) as database:
            database.execute("DROP TRIGGER audit_entry_no_update")

        done = serve_once(server)
        server.manage("migrate", "--skip-checks", "--verbosity", "0")

        assert done.returncode == 1
        assert "holdfast.E101" in done.stderr
        assert "migrate --skip-checks" in done.stderr
        server.manage("check", "--database", "default")
        server.end_commands()

    def test_it_raises_the_limit_on_open_files_or_says_so(self, tmp_path: Path) -> None:
        hard = 1_024
        server = Holdfast(tmp_path)
        limited = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (256, {hard}))"
        server._arguments = ["-c", f"{limited}; {_RUN}", *server._arguments]
        with server:
            limits = resource.prlimit(server._process.pid, resource.RLIMIT_NOFILE)

        assert limits == (hard, hard)
        assert f"Only {hard} files may be open" in server._log.read_text()


_RUN = (
    "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def serve_once(server: Holdfast) -> subprocess.CompletedProcess[str]:
    """Start it where it must refuse; what it said."""
    return subprocess.run(
        [sys.executable, "manage.py", "serve", "--no-static", "--port", str(server.port)],
        cwd=ROOT,
        env=server._environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _service(server: Holdfast, slug: str) -> str:
    server.token("policies:read", service=slug)  # makes the service, too
    return slug


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _document(server: Holdfast, token: str, service: str = "checkout") -> httpx.Response:
    return httpx.get(f"{server.url}/api/v1/policies/{service}", headers=_bearer(token), timeout=10)


def _log(server: Holdfast) -> list[dict[str, object]]:
    lines = server._log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def _knock(server: Holdfast, token: str, seen: list[int]) -> bool:
    try:
        seen.append(_document(server, token).status_code)
    except httpx.TransportError:
        return False
    return seen[-1] == 200
