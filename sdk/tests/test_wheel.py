"""The SDK as users get it: the wheel, where nothing is installed but what it declares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1]
IF_THERE = {"typing_extensions"}  # which msgspec takes where others need it
UNLISTED = {"_missing_stdlib_info"}  # of Python 3.15 itself
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}

AFTER = """
import json, sys
before = set(sys.modules)
exec(sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""
EVERY_MODULE = """
import importlib, pkgutil, holdfast
for module in pkgutil.walk_packages(holdfast.__path__, "holdfast."):
    if not module.name.startswith(("holdfast.contrib.", "holdfast.__main__")):
        importlib.import_module(module.name)
"""
ONE_CALL = """
import logging
from holdfast import Holdfast
logging.disable()
assert Holdfast().call("quotes-api", lambda: 41) == 41
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    pip("wheel", *offline, "--wheel-dir", str(folder), str(PROJECT))
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment into which the wheel and its requirements went."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip("--python", str(python), "install", "--no-index", "--no-deps", str(wheel))
    (packages,) = folder.glob("lib/python*/site-packages")
    for needed in closure(requirements(wheel)):
        link(needed, packages)
    return python


def pip(*command: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    ran = subprocess.run([*pip, *command], capture_output=True, text=True, check=False)
    assert not ran.returncode, ran.stdout + ran.stderr


def requirements(wheel: Path) -> list[str]:
    """What the wheel itself says it needs, extras left aside."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    return without_extras(metadata.get_all("Requires-Dist", []))


def without_extras(stated: Iterable[str]) -> list[str]:
    parsed = [Requirement(each) for each in stated]
    return [each.name for each in parsed if not each.marker or each.marker.evaluate({"extra": ""})]


def closure(names: Iterable[str]) -> list[Distribution]:
    """The installed packages of those names, and what they need in turn."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        package = distribution(waiting.pop())
        if package.name not in found:
            found[package.name] = package
            waiting += without_extras(package.requires or [])
    return list(found.values())


def link(package: Distribution, packages: Path) -> None:
    """Install a package by pointing at its files: no index is asked."""
    for top in {file.parts[0] for file in package.files or () if file.parts[0] != ".."}:
        if not (packages / top).exists():
            (packages / top).symlink_to(Path(str(package.locate_file(top))))


def imported_by(python: Path, code: str) -> set[str]:
    """Top-level modules that running some code brings into a fresh process."""
    ran = subprocess.run(
        [str(python), "-I", "-c", AFTER, code],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ran.returncode, ran.stderr
    names: list[Any] = json.loads(ran.stdout)
    return set(names) - set(sys.stdlib_module_names) - UNLISTED


def test_it_needs_two_packages_and_brings_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    assert set(requirements(wheel)) == {"httpx", "msgspec"}
    assert "holdfast/py.typed" in names
    assert not [name for name in names if "tests" in name]


def test_importing_it_imports_nothing_else(python: Path) -> None:
    assert imported_by(python, "import holdfast") == {"holdfast"}


def test_making_a_client_imports_no_http_client(python: Path) -> None:
    """It comes with the first exchange, in a thread of its own, and would double the time."""
    made = imported_by(python, "from holdfast import Holdfast; Holdfast()")

    assert made - IF_THERE == {"holdfast", "msgspec"}


def test_calls_work_where_nothing_but_its_requirements_is_installed(python: Path) -> None:
    assert "holdfast" in imported_by(python, ONE_CALL)


def test_no_module_needs_what_is_not_declared(python: Path) -> None:
    assert imported_by(python, EVERY_MODULE) - IF_THERE == {"holdfast", "msgspec"}


@pytest.mark.parametrize("name", ["asgi", "wsgi", "httpx"])
def test_integrations_with_what_it_has_anyway_need_nothing_more(python: Path, name: str) -> None:
    assert "holdfast" in imported_by(python, f"import holdfast.contrib.{name}")


@pytest.mark.parametrize("name", ["celery", "django", "opentelemetry", "requests"])
def test_integrations_need_what_they_integrate_and_say_so(python: Path, name: str) -> None:
    code = f"""
try:
    import holdfast.contrib.{name}
except ModuleNotFoundError as error:
    assert error.name in ("{name}", "asgiref"), error.name
else:
    raise AssertionError("it was imported")
"""
    assert "holdfast" in imported_by(python, code)
