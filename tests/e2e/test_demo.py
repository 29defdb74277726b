"""`make run`: the demo comes alive, reacts, says what it is, and ends with the server."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from demo import plan, supervisor
from deploy.local_servers import free_port
from tests.e2e.processes import NOT_OURS, ROOT, eventually

PROCESSES = 1 + sum(service.processes for service in plan.SERVICES)  # the fakes, and services


@dataclass
class Demo:
    """A running `make run`, and an operator's browser."""

    var: Path
    process: psutil.Process
    console: httpx.Client

    def children(self) -> list[psutil.Process]:
        return [each for each in self.process.children(recursive=True) if is_of_the_demo(each)]

    def metric(self, name: str, *, having: str) -> float:
        """Sum of the series of a metric with this among their labels."""
        lines = self.console.get("/metrics", params={"environment": "demo"}).text.splitlines()
        found = [line for line in lines if line.startswith(f"{name}{{") and having in line]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def asked(self, path: str) -> dict[str, Any]:
        """What the API answers to the operator about the demo's environment."""
        answer = self.console.get(f"/api/v1/{path}", params={"environment": "demo"})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def changed(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"X-CSRFToken": self.console.cookies["csrftoken"]}
        answer = self.console.post(
            f"/api/v1/{path}", params={"environment": "demo"}, json=body, headers=headers
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def say(self, *arguments: str) -> None:
        environment = os.environ | {"HOLDFAST_VAR": str(self.var)}
        command = [sys.executable, "-m", "demo", *arguments]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)


def is_of_the_demo(process: psutil.Process) -> bool:
    try:
        return any(module in process.cmdline() for module in ("demo.service", "demo.fakes"))
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False  # it just ended


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    var, port = tmp_path_factory.mktemp("demo"), free_port()
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    ours = {"HOLDFAST_VAR": str(var), "HOST": "127.0.0.1", "PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    with (var / "run.log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "deploy/run.sh"], cwd=ROOT, env=inherited | ours, stdout=log, stderr=log
        )
    with httpx.Client(base_url=url, timeout=20, follow_redirects=True) as console:
        try:
            eventually(lambda: supervisor.is_up(url), within=120, what="the server is up")
            log_in(console, (var / "credentials").read_text().split("password: ")[1].strip())
            yield Demo(var, psutil.Process(process.pid), console)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def log_in(console: httpx.Client, password: str) -> None:
    page = console.get("/admin/login/")
    (token,) = re.findall(r'csrfmiddlewaretoken" value="([^"]+)"', page.text)[:1]
    form = {"csrfmiddlewaretoken": token, "username": "operator", "password": password}
    answer = console.post("/admin/login/", data=form, headers={"Referer": str(page.url)})
    assert answer.url.path == "/admin/"


@pytest.mark.parametrize("service", [each.slug for each in plan.SERVICES])
def test_every_service_calls_and_is_called(demo: Demo, service: str) -> None:
    def is_alive() -> bool:
        having = f'service="{service}"'
        return (
            demo.metric("holdfast_calls_total", having=having) > 0
            and demo.metric("holdfast_service_requests_total", having=having) > 0
        )

    eventually(is_alive, within=60, what=f"{service} has calls and requests")


@pytest.mark.parametrize("page", ["/admin/", "/wall/?environment=demo"])
def test_pages_say_that_it_is_a_demo(demo: Demo, page: str) -> None:
    assert "Demo: not a real fleet" in demo.console.get(page).text


def test_what_is_broken_on_purpose_opens_breakers_and_heals(demo: Demo) -> None:
    def opened() -> bool:
        having = 'service="trading",dependency="alpaca",state="open"'
        return demo.metric("holdfast_breaker_instances", having=having) > 0

    demo.say("break", "alpaca", "10m")
    eventually(opened, within=60, what="a breaker of alpaca opened")
    demo.say("mend", "alpaca")
    eventually(lambda: not opened(), within=60, what="it closed again")


def test_a_killed_process_is_started_again(demo: Demo) -> None:
    eventually(lambda: len(demo.children()) == PROCESSES, within=30, what="all run")
    victim = demo.children()[-1]

    victim.kill()

    eventually(
        lambda: len(demo.children()) == PROCESSES and victim not in demo.children(),
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


def test_messages_that_failed_for_good_are_sent_after_all_when_somebody_says_so(
    demo: Demo,
) -> None:
    demo.say("break", "green-api", "60s")
    eventually(lambda: bool(groups(demo)), within=60, what="messages became dead letters")
    demo.say("mend", "green-api")

    redrive = demo.changed("redrives", {"group": groups(demo)[0]["id"], "reason": "it is back"})

    path = f"redrives/{redrive['id']}"
    eventually(
        lambda: demo.asked(path)["resolved"] > 0, within=90, what="the service sent one of them"
    )


def groups(demo: Demo) -> list[dict[str, Any]]:
    found = demo.asked("dead-letter-groups")["results"]
    return [group for group in found if group["handler"] == "send-message"]
