"""`python -m holdfast doctor` finds what is wrong, says what to do, and keeps the token secret."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.__main__ import main
from holdfast._doctor import Finding, cache_finding, examine
from holdfast._settings import Settings, Timing
from sdk.tests.client.server import Fault, PolicyServer
from sdk.tests.client.world import TOKEN, document, flag, settings


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        server.publish(document(812))
        server.report_faults = [Fault("status", 400)]
        yield server


def by_subject(settings: Settings) -> dict[str, Finding]:
    timing = Timing(request_seconds=2.0, silence_seconds=0.2)
    return {finding.subject: finding for finding in examine(settings, timing)}


class TestFindings:
    def test_all_is_well(self, server: PolicyServer, tmp_path: Path) -> None:
        server.server_time = time.time()

        found = by_subject(settings(server.url, cache_dir=tmp_path))

        levels = {subject: finding.level for subject, finding in found.items()}
        assert levels == {
            "settings": "ok",
            "cache": "ok",
            "policy": "ok",
            "clock": "ok",
            "reports": "ok",
            "stream": "ok",
            "letters": "ok",
            "redrives": "ok",
        }
        assert "production, revision 812" in found["policy"].text

    def test_a_clock_that_is_off_is_told(self, server: PolicyServer) -> None:
        server.server_time = time.time() - 60

        finding = by_subject(settings(server.url))["clock"]

        assert (finding.level, "NTP" in finding.text) == ("warn", True)

    def test_scopes_that_only_some_need_are_no_failure(self, server: PolicyServer) -> None:
        server.letter_faults = [Fault("status", 403)]
        server.outcome_faults = [Fault("status", 403)]

        found = by_subject(settings(server.url))

        assert (found["letters"].level, found["redrives"].level) == ("warn", "warn")
        assert "deadletters:write" in found["letters"].text
        assert "redrives:work" in found["redrives"].text

    def test_a_missing_setting_is_named(self, tmp_path: Path) -> None:
        found = by_subject(settings("", problem="no URL (HOLDFAST_URL)", cache_dir=tmp_path))

        assert found["settings"].level == "fail"
        assert "HOLDFAST_URL" in found["settings"].text
        assert "server" not in found

    def test_a_dead_server_is_a_failure(self, server: PolicyServer) -> None:
        server.kill()

        assert by_subject(settings(server.url))["server"].level == "fail"

    @pytest.mark.parametrize(
        ("status", "hint"),
        [(401, "createtoken"), (403, "policies:read"), (404, "HOLDFAST_SERVICE"), (503, "again")],
    )
    def test_a_refused_policy_says_what_to_do(
        self, server: PolicyServer, status: int, hint: str
    ) -> None:
        server.faults = [Fault("status", status)]

        finding = by_subject(settings(server.url))["policy"]

        assert finding.level == "fail"
        assert hint in finding.text

    def test_another_server_at_that_address_is_told(self, server: PolicyServer) -> None:
        server.faults = [Fault("garbage")]

        assert "is this Holdfast?" in by_subject(settings(server.url))["policy"].text

    def test_refused_entries_are_named(self, server: PolicyServer) -> None:
        server.publish(document(1, flags={"new": flag() | {"kind": "unheard_of"}}))

        finding = by_subject(settings(server.url))["policy"]

        assert (finding.level, "flags.new.kind" in finding.text) == ("warn", True)

    @pytest.mark.parametrize(("status", "level"), [(403, "fail"), (500, "warn")])
    def test_a_missing_report_scope_is_told(
        self, server: PolicyServer, status: int, level: str
    ) -> None:
        server.report_faults = [Fault("status", status)]

        assert by_subject(settings(server.url))["reports"].level == level

    def test_a_refused_stream_is_a_warning_because_polling_goes_on(
        self, server: PolicyServer
    ) -> None:
        server.stream_faults = [Fault("status", 429)]

        assert by_subject(settings(server.url))["stream"].level == "warn"

    def test_a_buffering_proxy_shows_as_a_silent_stream(self, server: PolicyServer) -> None:
        server.stream_greets = False

        finding = by_subject(settings(server.url))["stream"]

        assert (finding.level, "buffer" in finding.text) == ("warn", True)


class TestCacheDirectory:
    def test_one_that_cannot_be_written_is_a_warning(self) -> None:
        finding = cache_finding(Path("/dev/null/cache"))

        assert (finding.level, "HOLDFAST_CACHE_DIR" in finding.text) == ("warn", True)

    def test_one_that_others_can_write_is_a_warning(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)

        assert cache_finding(tmp_path).level == "warn"

    def test_none_at_all_is_a_warning(self) -> None:
        assert cache_finding(None).level == "warn"


class TestCommand:
    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "holdfast", *arguments],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_it_succeeds_and_keeps_the_token_secret(
        self, server: PolicyServer, tmp_path: Path
    ) -> None:
        done = self.run(
            "doctor",
            HOLDFAST_URL=server.url,
            HOLDFAST_TOKEN=TOKEN,
            HOLDFAST_SERVICE="checkout",
            HOLDFAST_CACHE_DIR=str(tmp_path),
        )

        assert done.returncode == 0, done.stdout + done.stderr
        assert TOKEN not in done.stdout + done.stderr
        assert "ok    policy" in done.stdout

    def test_it_fails_when_something_fails(self, tmp_path: Path) -> None:
        done = self.run(
            "doctor",
            "--url",
            "http://127.0.0.1:9",
            "--service",
            "checkout",
            "--cache-dir",
            str(tmp_path),
            HOLDFAST_TOKEN=TOKEN,
        )

        assert done.returncode == 1
        assert "fail  server" in done.stdout


class TestMain:
    def test_it_prints_each_finding_and_fails_with_the_first_failure(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        code = main(["doctor", "--url", "nonsense", "--cache-dir", str(tmp_path)])

        lines = capsys.readouterr().out.splitlines()
        assert code == 1
        assert [line.split()[:2] for line in lines] == [["fail", "settings"], ["ok", "cache"]]

    def test_a_command_is_required(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main([])

        assert "doctor" in capsys.readouterr().err


def test_importing_the_spec_imports_no_http_client_and_starts_no_thread() -> None:
    code = (
        "import sys, threading, json, holdfast, holdfast.spec, holdfast.histogram;"
        "print(json.dumps([[n for n in ('httpx', 'ssl', 'django') if n in sys.modules],"
        " threading.active_count()]))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    assert json.loads(done.stdout) == [[], 1]
