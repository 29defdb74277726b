"""An embedded Holdfast that is killed, filled up, raced and stormed: nothing is half-written."""

import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast import Holdfast as Client
from tests.e2e.doors import Console, Switch
from tests.e2e.processes import Holdfast, Process, eventually

SCOPES = ("flags:write", "config:write", "config:read", "audit:read", "policies:read")
FLIPS = 50
RACES = 8
ROOM = 64  # bytes a file may have on a full disk


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    with Holdfast(tmp_path_factory.mktemp("holdfast")) as started:
        yield started


@pytest.fixture(scope="module")
def operator(server: Holdfast) -> str:
    return server.token(*SCOPES)


class TestKilledMidBurst:
    def test_no_revision_is_lost_or_repeated_and_no_service_goes_back(
        self, server: Holdfast, operator: str, tmp_path: Path
    ) -> None:
        token = server.token("policies:read", "reports:write", service="burst")
        with (
            Client(server.url, token, service="burst", cache_dir=tmp_path) as client,
            Switch(server.url, operator, key="burst", service="burst") as switch,
            watching(client) as seen,
        ):
            client.start(wait=10)
            acknowledged = flip_until_killed(server, switch)
            server.start()
            server.wait_until_up()
            flips = audited(server, operator, switch.flag_id)
            eventually(
                lambda: client.stats()["policy"]["revision"] >= flips[-1]["revision"],
                within=20,
                what="the service caught up",
            )

        revisions = [entry["revision"] for entry in flips]
        assert acknowledged >= FLIPS  # else nothing was interrupted
        assert acknowledged <= len(flips) <= acknowledged + 1  # all that was said to be, is
        assert revisions == list(range(revisions[0], revisions[0] + len(flips)))
        assert seen == sorted(seen)
        assert "BROKEN" not in server.manage("verifyaudit")


class TestFullDisk:
    def test_a_change_is_refused_whole_while_policies_go_on(
        self, server: Holdfast, operator: str, tmp_path: Path
    ) -> None:
        token = server.token("policies:read", "reports:write", service="full")
        with (
            Client(server.url, token, service="full", cache_dir=tmp_path) as client,
            Switch(server.url, operator, key="full", service="full") as switch,
        ):
            client.start(wait=10)
            switch.engage()
            eventually(lambda: client.flag("full").enabled, within=2, what="it obeys")
            before = len(audited(server, operator, switch.flag_id))
            with full_disk(server):
                refused = switch.attempt_end()
                assert (refused.status_code, refused.json()["code"]) == (503, "database_unwritable")
                assert "disk" in refused.json()["detail"]
                assert policy(server, token).json()["flags"]["full"]["enabled"]
                assert client.flag("full").enabled
            switch.end()
            eventually(lambda: not client.flag("full").enabled, within=5, what="it is free")

        assert len(audited(server, operator, switch.flag_id)) == before + 1
        assert server.is_running
        assert "BROKEN" not in server.manage("verifyaudit")

    def test_a_service_that_cannot_store_its_policy_obeys_it_all_the_same(
        self, server: Holdfast, operator: str, tmp_path: Path
    ) -> None:
        environment = {
            "HOLDFAST_URL": server.url,
            "HOLDFAST_TOKEN": server.token("policies:read", "reports:write", service="orders"),
            "HOLDFAST_SERVICE": "orders",
            "HOLDFAST_CACHE_DIR": str(tmp_path / "cache"),
        }
        arguments = ["-m", "tests.e2e.orders", "bare", "{port}"]
        log = tmp_path / "orders.log"
        with (
            Process(arguments, environment, log=log) as orders,
            Switch(
                server.url, operator, key="read-only", service="orders", kind="read_only"
            ) as flag,
        ):
            eventually(lambda: stored(tmp_path) != b"", within=10, what="a policy is stored")
            before = stored(tmp_path)
            with full_disk(orders):
                flag.engage()
                eventually(lambda: is_read_only(orders), within=2, what="it obeys")
                eventually(lambda: "snapshot" in orders.log, within=5, what="it says so")
                assert stored(tmp_path) == before
                assert len(list((tmp_path / "cache").iterdir())) == 1
            flag.end()
            eventually(lambda: not is_read_only(orders), within=2, what="it is free")
            eventually(lambda: stored(tmp_path) != before, within=10, what="it stores again")


class TestRaces:
    def test_of_two_operators_on_one_flag_one_wins_and_the_other_is_told(
        self, server: Holdfast, operator: str
    ) -> None:
        with (
            Switch(server.url, operator, key="raced") as switch,
            Console(server.url, server.password) as console,
        ):
            for _ in range(RACES):
                path = f"/admin/degradation/flag/{switch.flag_id}/engage/"
                form = console.form(path) | {"reason": "by hand", "lease": "1800"}
                by_api, by_hand = at_once(switch.attempt_engage, partial(console.post, path, form))
                assert sorted([by_api.status_code, by_hand.status_code]) in ([200, 422], [302, 412])
                switch.look()
                switch.end()

        flips = audited(server, operator, switch.flag_id)
        assert [entry["action"] for entry in flips] == ["flag.engaged", "flag.ended"] * RACES
        revisions = [entry["revision"] for entry in flips]
        assert revisions == list(range(revisions[0], revisions[0] + 2 * RACES))

    def test_of_two_operators_on_one_config_one_wins_and_the_other_is_told(
        self, server: Holdfast, operator: str
    ) -> None:
        with (
            httpx.Client(base_url=f"{server.url}/api/v1/", headers=bearer(operator)) as api,
            Console(server.url, server.password) as console,
        ):
            made = api.post("configs/retry", json={"settings": {"attempts": 5}, "reason": "x"})
            assert made.status_code == 201, made.text
            url, etag = f"configs/retry/{made.json()['id']}", made.headers["ETag"]
            path = f"/admin/policies/retryconfig/{made.json()['id']}/edit/"
            for turn in range(RACES):
                low, high = 2 + turn % 2, 7 + turn % 2  # never what it is already
                form = console.form(path) | {"attempts": str(high), "reason": "by hand"}
                body = {"settings": {"attempts": low}, "reason": "by API"}
                by_api, by_hand = at_once(
                    partial(api.patch, url, json=body, headers={"If-Match": etag}),
                    partial(console.post, path, form),
                )
                assert (by_api.status_code, by_hand.status_code) in {(200, 422), (412, 302)}
                winner = low if by_api.status_code == 200 else high
                now = api.get(url)
                etag = now.headers["ETag"]
                assert now.json()["settings"]["attempts"] == winner

        assert "BROKEN" not in server.manage("verifyaudit")


def flip_until_killed(server: Holdfast, switch: Switch) -> int:
    """Flip as fast as it goes; kill the server in the middle; returns how many were confirmed."""
    confirmed = 0
    killer = threading.Timer(0.05, server.kill)  # somewhere in the flips that follow
    with suppress(httpx.TransportError):
        while True:
            (switch.end if confirmed % 2 else switch.engage)()
            confirmed += 1
            if confirmed == FLIPS:
                killer.start()
    killer.join()
    return confirmed


@contextmanager
def watching(client: Client) -> Iterator[list[int]]:
    """Every revision the client had in force, in order, as seen by looking all the time."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            revision = (client.stats()["policy"] or {}).get("revision")
            if revision is not None and (not seen or seen[-1] != revision):
                seen.append(revision)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@contextmanager
def full_disk(process: Process) -> Iterator[None]:
    """Let no file of the process grow, nor be written at all past its first bytes."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


def at_once(*acts: Callable[[], httpx.Response]) -> list[httpx.Response]:
    barrier = threading.Barrier(len(acts))

    def act(one: Callable[[], httpx.Response]) -> httpx.Response:
        barrier.wait(10)
        return one()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(act, acts))


def audited(server: Holdfast, token: str, flag_id: int) -> list[dict[str, Any]]:
    """Every switch of the flag, oldest first."""
    url = f"{server.url}/api/v1/audit?object=flag:{flag_id}&limit=200"
    found: list[dict[str, Any]] = []
    while url:
        page = httpx.get(url, headers=bearer(token), timeout=10).json()
        found += page["results"]
        url = page["next"]
    return [entry for entry in reversed(found) if entry["revision"] is not None]


def policy(server: Holdfast, token: str) -> httpx.Response:
    return httpx.get(f"{server.url}/api/v1/policies/full", headers=bearer(token), timeout=10)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def stored(directory: Path) -> bytes:
    """The policy the service has on disk."""
    return b"".join(file.read_bytes() for file in (directory / "cache").glob("*.json"))


def is_read_only(orders: Process) -> bool:
    return bool(httpx.get(f"{orders.url}/state", timeout=5).json()["read_only"])
