"""`make run` for a test, in which nothing fails but on purpose, and an operator's session."""

import json
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
        answer = self.console.get(
            httpx.URL(f"/api/v1/{path}").copy_add_param("environment", "demo")
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def changed(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._sent("POST", path, body, 201)

    def patched(self, path: str, row: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        return self._sent("PATCH", path, body, 200, **{"If-Match": f'"{row["version"]}"'})

    def _sent(
        self, method: str, path: str, body: dict[str, Any], status: int, **headers: str
    ) -> dict[str, Any]:
        headers["X-CSRFToken"] = self.console.cookies["csrftoken"]
        where = {"environment": "demo"}
        answer = self.console.request(
            method, f"/api/v1/{path}", params=where, json=body, headers=headers
        )
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    @property
    def password(self) -> str:
        return (self.var / "credentials").read_text().split("password: ")[1].strip()

    @property
    def fakes(self) -> str:
        """Address of what the demo's services call."""
        return str(json.loads((self.var / plan.FOLDER / "fakes.json").read_text())["url"])

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
def calm_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    var, port = tmp_path_factory.mktemp("demo"), free_port()
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    ours = {"HOLDFAST_VAR": str(var), "HOST": "127.0.0.1", "PORT": str(port), "DEMO": "calm"}
    url = f"http://127.0.0.1:{port}"
    with (var / "run.log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "deploy/run.sh"], cwd=ROOT, env=inherited | ours, stdout=log, stderr=log
        )
    with httpx.Client(base_url=url, timeout=20, follow_redirects=True) as console:
        try:
            eventually(lambda: supervisor.is_up(url), within=120, what="the server is up")
            demo = Demo(var, psutil.Process(process.pid), console)
            log_in(console, demo.password)
            yield demo
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def log_in(console: httpx.Client, password: str) -> None:
    page = console.get("/admin/login/")
    (token,) = re.findall(r'csrfmiddlewaretoken" value="([^"]+)"', page.text)[:1]
    form = {"csrfmiddlewaretoken": token, "username": "operator", "password": password}
    answer = console.post("/admin/login/", data=form, headers={"Referer": str(page.url)})
    assert answer.url.path == "/admin/"
