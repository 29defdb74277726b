"""Dead letters from a real service to a real Holdfast and back, with `kill -9` in the middle."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.processes import NOT_OURS, ROOT, Holdfast, eventually

LETTERS = 20

SERVICE = """
import sys, time
from holdfast import Holdfast
from holdfast._settings import Timing

hf = Holdfast(timing=Timing(
    backoff_seconds=0.05, adopt_seconds=0.1, claim_gap_seconds=0.05, lease_seconds=30,
))
done = open(sys.argv[2], "a", buffering=1)
if sys.argv[1] == "capture":
    for number in range(int(sys.argv[3])):
        assert hf.dead_letter("charge", number, idempotency_key=f"charge {number}")
else:
    @hf.redrives("charge")
    def charge(letter):
        time.sleep(0.02)
        done.write(f"{letter.idempotency_key}\\n")
hf.start()
print("up", flush=True)
time.sleep(120)
"""


def test_a_service_killed_while_capturing_and_redriving_loses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    done = tmp_path / "done"
    with Holdfast(tmp_path) as server:
        scopes = ("policies:read", "reports:write", "deadletters:write", "redrives:work")
        token = server.token(*scopes, service="checkout")
        operator = server.token("config:read", "redrives:write")
        api = httpx.Client(
            base_url=f"{server.url}/api/v1/", headers={"Authorization": f"Bearer {operator}"}
        )
        environment = {
            "HOLDFAST_URL": server.url,
            "HOLDFAST_TOKEN": token,
            "HOLDFAST_SERVICE": "checkout",
            "HOLDFAST_CACHE_DIR": str(tmp_path / "cache"),
        }
        kill(started("capture", done, environment))

        second = started("redrive", done, environment)
        eventually(lambda: len(letters(api)) == LETTERS, within=20, what="all were captured")
        ids = [letter["id"] for letter in letters(api)]
        created = api.post("redrives", json={"letters": ids, "reason": "the provider is back"})
        assert created.status_code == 201, created.text
        eventually(lambda: len(lines(done)) >= LETTERS // 3, within=20, what="some were tried")
        kill(second)
        third = started("redrive", done, environment)
        eventually(
            lambda: redrive(api)["resolved"] == LETTERS, within=60, what="all were confirmed"
        )
        kill(third)

        assert (redrive(api)["total"], redrive(api)["refailed"]) == (LETTERS, 0)
        runs = Counter(lines(done))
        assert len(runs) == LETTERS
        assert sum(runs.values()) <= LETTERS + 1  # the one in hand when it was killed
        assert {letter["status"] for letter in letters(api)} == {"resolved"}
        api.close()


def started(part: str, done: Path, environment: dict[str, str]) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE, part, str(done), str(LETTERS)],
        cwd=ROOT,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def letters(api: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("dead-letters", params={"limit": 200}).json()["results"]
    return found


def redrive(api: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = api.get("redrives").json()["results"][0]
    return found


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
