"""A running Unleash of our own, to measure beside: npm `unleash-server`, which nobody need install.

`npm install unleash-server@8.2.0` in some directory, then `python -m benchmarks.policies --unleash
DIRECTORY`. It gets a PostgreSQL of its own, asks nobody about versions, refuses nobody for asking
often, and is filled with flags until its document is about as large as ours.
"""

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ingest import free_port
from deploy.local_servers import PostgreSQL

ADMIN, CLIENT = "*:*.bench-admin", "default:development.bench-client"
FLAGS = 60
SECONDS = 90.0  # it migrates its database first


@contextmanager
def running(directory: Path) -> Iterator[tuple[str, str]]:
    """Address and client token of an Unleash that is filled."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with PostgreSQL() as database, tempfile.TemporaryFile() as log:
        settings = {
            "DATABASE_URL": database.url,
            "DATABASE_SSL": "false",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(port),
            "INIT_ADMIN_API_TOKENS": ADMIN,
            "INIT_BACKEND_API_TOKENS": CLIENT,
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "TOKEN_AUTHENTICATION_RATE_LIMIT_PER_MINUTE": "1000000000",
            "SDK_API_RATE_LIMIT_PER_MINUTE": "1000000000",
            "LOG_LEVEL": "error",
            "NODE_ENV": "production",
        }
        server = subprocess.Popen(
            ["node", "node_modules/unleash-server/dist/server.js"],
            cwd=directory,
            env=os.environ | settings,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(url, server)
            for number in range(FLAGS):
                _add(url, f"flag-{number}")
            yield url, CLIENT
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("Unleash did not start")


def _add(url: str, name: str) -> None:
    """A flag that is on for users of a long list."""
    features = f"{url}/api/admin/projects/default/features"
    _post(features, {"name": name, "type": "operational"})
    there = f"{features}/{name}/environments/development"
    values = ["user-1234567"] * 8
    constraint = {"contextName": "userId", "operator": "IN", "values": values}
    strategy = {
        "name": "flexibleRollout",
        "constraints": [constraint],
        "parameters": {"rollout": "100", "stickiness": "default", "groupId": name},
    }
    _post(f"{there}/strategies", strategy)
    _post(f"{there}/on", {})


def _post(url: str, body: object) -> None:
    headers = {"Authorization": ADMIN, "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url}: {error.code} {error.read()!r}") from error
