"""`make run`: the demo comes alive, reacts, says what it is, and ends with the server."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from demo import plan, supervisor
from tests.e2e.demo import Demo, calm_demo
from tests.e2e.processes import ROOT, eventually

__all__ = ["calm_demo"]
PROCESSES = 1 + sum(service.processes for service in plan.SERVICES)  # the fakes, and services


@pytest.mark.parametrize("service", [each.slug for each in plan.SERVICES])
def test_every_service_calls_and_is_called(calm_demo: Demo, service: str) -> None:
    def is_alive() -> bool:
        having = f'service="{service}"'
        return (
            calm_demo.metric("holdfast_calls_total", having=having) > 0
            and calm_demo.metric("holdfast_service_requests_total", having=having) > 0
        )

    eventually(is_alive, within=60, what=f"{service} has calls and requests")


@pytest.mark.parametrize("page", ["/admin/", "/wall/?environment=demo"])
def test_pages_say_that_it_is_a_demo(calm_demo: Demo, page: str) -> None:
    assert "Demo: not a real fleet" in calm_demo.console.get(page).text


def test_a_killed_process_is_started_again(calm_demo: Demo) -> None:
    eventually(lambda: len(calm_demo.children()) == PROCESSES, within=30, what="all run")
    victim = calm_demo.children()[-1]

    victim.kill()

    eventually(
        lambda: len(calm_demo.children()) == PROCESSES and victim not in calm_demo.children(),
        within=30,
        what="another one runs",
    )


def runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # ended, but nobody has asked how
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["server", "supervisor"])
def test_no_process_is_left_behind(tmp_path: Path, how: signal.Signals, whom: str) -> None:
    """Beside a program that stands for the server and ends of any signal."""
    (tmp_path / plan.FOLDER).mkdir()
    tokens = dict.fromkeys((service.slug for service in plan.SERVICES), "hf_none")
    supervisor.write_private(tmp_path / plan.FOLDER / "tokens.json", tokens)
    script = f"{sys.executable} -m demo run --url http://127.0.0.1:9 & exec sleep 120"
    environment = os.environ | {"HOLDFAST_VAR": str(tmp_path)}
    server = subprocess.Popen(["sh", "-c", script], cwd=ROOT, env=environment)
    try:
        tree = psutil.Process(server.pid)
        eventually(
            lambda: len(tree.children(recursive=True)) == PROCESSES + 1, within=30, what="all run"
        )
        family = tree.children(recursive=True)
        (boss,) = tree.children()

        (tree if whom == "server" else boss).send_signal(how)

        eventually(lambda: not any(map(runs, family)), within=15, what="all have ended")
    finally:
        server.kill()
        server.wait()
