"""The rules in the root's conftest.py hold: they are tried on a small test suite of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parent.parent / "conftest.py"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """An empty suite under the rules."""
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def outcome(suite: Path, test: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of pytest on one file with this content."""
    (suite / "test_it.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "."],
        cwd=suite, capture_output=True, text=True, check=False,
        env=os.environ
        | {"HOLDFAST_ALLOW_SKIPS": "0", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        | environment,
    )  # fmt: skip
    return done.returncode, done.stdout


SKIPPED_TEST = "import pytest\ndef test(): pytest.skip('no browser')\n"
SKIPPED_FILE = "import pytest\npytest.importorskip('no_such_module')\ndef test(): ...\n"


@pytest.mark.parametrize("test", [SKIPPED_TEST, SKIPPED_FILE])
def test_a_skip_fails_the_run(suite: Path, test: str) -> None:
    code, output = outcome(suite, test)

    assert code in {pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}
    assert "skipped, which counts as failed" in output


def test_a_skip_passes_when_the_developer_allows_it(suite: Path) -> None:
    code, output = outcome(suite, SKIPPED_TEST, HOLDFAST_ALLOW_SKIPS="1")

    assert code == pytest.ExitCode.OK
    assert "1 skipped" in output


@pytest.mark.parametrize("call", ["create_connection", "getaddrinfo"])
def test_the_network_cannot_be_reached(suite: Path, call: str) -> None:
    arguments = {"create_connection": "(('192.0.2.1', 80), 1)", "getaddrinfo": "('a.test', 80)"}

    code, output = outcome(suite, f"import socket\ndef test(): socket.{call}{arguments[call]}\n")

    assert code == pytest.ExitCode.TESTS_FAILED
    assert "tests use loopback only" in output
