"""Guarded functions keep their signatures for those who check types, with mypy and with pyright."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src"


def check(*command: str) -> str:
    """What a checker complains of; a complaint that `api.py` expects and misses is one too."""
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def test_mypy_agrees(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")  # not the developer's, which another configuration fills

    assert not check(
        "mypy", "--strict", "--config-file=", "--cache-dir", cache, str(HERE / "api.py")
    )


def test_pyright_agrees() -> None:
    assert not check("basedpyright", "--project", str(HERE), "--pythonpath", sys.executable)
