"""Dead letters from real services to a real Holdfast and back, with `kill -9` all the time."""

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.processes import Background, Cluster, Process, eventually

KILLS = int(os.environ.get("HOLDFAST_KILLS", "5"))  # 50 take three minutes
SCOPES = ("policies:read", "reports:write", "deadletters:write", "redrives:work")


class Fleet:
    """A cluster and two parts of one service, each of which may be killed at any moment."""

    def __init__(self, cluster: Cluster, folder: Path, stack: ExitStack) -> None:
        self._captured, self._run = folder / "captured", folder / "run"
        token = cluster.token(*SCOPES, service="checkout")
        operator = cluster.token("config:read", "redrives:write")
        self._headers = {"Authorization": f"Bearer {operator}"}
        self._webs = cluster.webs
        self._capture = self._service("capture", self._webs[0], token, self._captured)
        self._redrive = self._service("redrive", self._webs[1], token, self._run)
        self._deliver = self._service("deliver", self._webs[0], token, self._captured)
        for service in (self._capture, self._redrive):
            stack.enter_context(service)
        self._stack = stack
        worker = cluster.processes["worker"]
        self._victims = [*self._webs, worker, self._capture, self._redrive]
        self.killed: Counter[str] = Counter()

    def _service(self, part: str, web: Process, token: str, note: Path) -> Process:
        environment = {
            "HOLDFAST_URL": web.url,
            "HOLDFAST_TOKEN": token,
            "HOLDFAST_SERVICE": "checkout",
            "HOLDFAST_CACHE_DIR": str(note.parent / "cache"),
        }
        arguments = ["-m", "tests.e2e.letters", part, str(note)]
        return Background(arguments, environment, log=note.parent / f"{part}.log", ready="")

    def kill_one(self, chosen: random.Random) -> None:
        """Kill one of them in the middle of its work and start it anew."""
        victim = chosen.choice(self._victims)
        victim.kill()
        self.killed["redrive" if victim is self._redrive else "another"] += 1
        victim.start()

    def stop_capturing(self) -> None:
        """In the middle too: what it kept and has not sent is sent by the process after it."""
        self._capture.kill()
        self._stack.enter_context(self._deliver)

    def redrive_all(self) -> None:
        """What an operator does who finds letters that wait, if a server is there to hear it."""
        for group in self.asked("dead-letter-groups"):
            if group["unresolved"]:
                self._send("POST", "redrives", {"group": group["id"], "reason": "again"})

    def asked(self, path: str) -> list[dict[str, Any]]:
        """All pages of a list; empty if no server answers just now."""
        found: list[dict[str, Any]] = []
        query: dict[str, Any] = {"limit": 200}
        while answer := self._send("GET", path, query=query):
            page = answer.json()
            found += page["results"]
            if page["next"] is None:
                return found
            query = dict(httpx.URL(page["next"]).params)
        return []

    def _send(
        self, method: str, path: str, body: Any = None, *, query: Any = None
    ) -> httpx.Response | None:
        for web in self._webs:
            try:
                answer = httpx.request(
                    method,
                    f"{web.url}/api/v1/{path}",
                    params=query,
                    json=body,
                    headers=self._headers,
                    timeout=10,
                )
            except httpx.TransportError:
                continue
            if answer.status_code < 500:
                return answer
        return None

    @property
    def captured(self) -> list[str]:
        """Keys of the letters the service was told are kept."""
        return self._captured.read_text().splitlines()

    @property
    def runs(self) -> Counter[str]:
        """How often each letter was tried again."""
        return Counter(self._run.read_text().splitlines() if self._run.exists() else ())


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(tmp_path))
        yield Fleet(cluster, tmp_path, stack)


def goes_on(fleet: Fleet, before: int) -> bool:
    """Whether more letters than before have been tried again."""
    fleet.redrive_all()
    return len(fleet.runs) > before


def is_done(fleet: Fleet) -> bool:
    fleet.redrive_all()
    return {letter["status"] for letter in fleet.asked("dead-letters")} == {"resolved"}


@pytest.mark.timeout(240 + 16 * KILLS)
def test_kills_while_letters_are_captured_and_redriven_lose_and_repeat_nothing(
    fleet: Fleet,
) -> None:
    chosen = random.Random()
    for _ in range(KILLS):
        before = len(fleet.runs)
        eventually(
            lambda before=before: goes_on(fleet, before),  # type: ignore[misc]  # bound here
            within=60,
            what="letters are captured and tried again",
            every=0.2,
        )
        fleet.kill_one(chosen)
    fleet.stop_capturing()

    kept = set(fleet.captured)
    eventually(
        lambda: kept <= {letter["idempotency_key"] for letter in fleet.asked("dead-letters")},
        within=60,
        what="every letter that was kept has arrived",
        every=0.5,
    )
    eventually(lambda: is_done(fleet), within=90, what="every letter has been confirmed", every=1.0)

    letters = fleet.asked("dead-letters")
    redrives = fleet.asked("redrives")
    assert sum(redrive["resolved"] for redrive in redrives) == len(letters)
    assert sum(redrive["refailed"] for redrive in redrives) == 0
    assert set(fleet.runs) == {letter["idempotency_key"] for letter in letters}
    # Only what the killed process had in hand may have been run a second time.
    repeated = sum(fleet.runs.values()) - len(letters)
    assert repeated <= fleet.killed["redrive"]
