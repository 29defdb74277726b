"""A client that moves between servers of different epochs: restored, replaced, and back again."""

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from holdfast import Holdfast as Client
from tests.e2e.doors import Switch
from tests.e2e.processes import Holdfast, eventually

FLAG = "simple-replies"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Holdfast]:
    with Holdfast(tmp_path) as started:
        yield started


@pytest.fixture
def client(server: Holdfast, tmp_path: Path) -> Iterator[Client]:
    token = server.token("policies:read", "reports:write")
    with Client(server.url, token, service="checkout", cache_dir=tmp_path / "cache") as started:
        yield started


def test_a_client_follows_a_restored_database_and_the_one_before_it(
    server: Holdfast, client: Client, tmp_path: Path
) -> None:
    operator = server.token("flags:write", "config:read")
    with Switch(server.url, operator, key=FLAG) as switch:
        switch.engage()
        eventually(lambda: client.flag(FLAG).enabled, within=10, what="the first state")
        earlier, first_epoch = revision(client), epoch(client)
        copy_database(tmp_path / "holdfast.sqlite3", tmp_path / "backup.sqlite3")
        switch.end()
        switch.engage()
        switch.end()
    eventually(lambda: not client.flag(FLAG).enabled, within=10, what="the newest state")
    newest = revision(client)

    replace_database(server, tmp_path / "backup.sqlite3", keep=tmp_path / "lost.sqlite3")
    server.manage("newepoch", "--reason", "restored from backup")
    with server:
        eventually(lambda: client.flag(FLAG).enabled, within=30, what="the restored state")
        assert (revision(client), earlier < newest) == (earlier, True)
        assert epoch(client) != first_epoch
        replace_database(server, tmp_path / "lost.sqlite3", keep=tmp_path / "unused.sqlite3")

    with server:
        eventually(lambda: epoch(client) == first_epoch, within=30, what="the first epoch again")
        assert (client.flag(FLAG).enabled, revision(client)) == (False, newest)


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a database in use."""
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)


def replace_database(server: Holdfast, by: Path, *, keep: Path) -> None:
    """Stop the server and put another database in the place of its own."""
    server.end(signal.SIGTERM)
    current = server.var / "holdfast.sqlite3"
    copy_database(current, keep)
    for leftover in server.var.glob("holdfast.sqlite3*"):
        leftover.unlink()
    shutil.copy(by, current)


def revision(client: Client) -> int:
    return int(client.stats()["policy"]["revision"])


def epoch(client: Client) -> str:
    return str(client.stats()["policy"]["epoch"])
