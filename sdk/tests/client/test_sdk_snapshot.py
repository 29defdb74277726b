"""The policy on disk: used when Holdfast is down, and never more than it was."""

import json
import logging
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast._feed import Feed
from holdfast._settings import default_cache_dir, resolve
from holdfast._snapshot import Keeper, Snapshot
from sdk.tests.client.world import (
    SERVER_TIME,
    TOKEN,
    FakeClock,
    RecordingEngine,
    document,
    encode,
    flag,
    received,
    settings,
)


@contextmanager
def file_size_limited_to(size: int) -> Iterator[None]:
    """What the kernel answers beyond it (EFBIG) comes at the same call as a full disk's ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Machine:
    """One directory, seen by one process after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock()

    def snapshot(self, **changes: Any) -> Snapshot:
        return Snapshot(settings(**{"cache_dir": self.directory, **changes}), self.clock)

    def store(self, body: dict[str, Any] | None = None) -> Path:
        """Store a document as a healthy process would; the file."""
        snapshot = self.snapshot()
        assert snapshot.save(body or document(7), '"7"', SERVER_TIME, silence=0.0)
        assert snapshot.path is not None
        return snapshot.path

    def restart(self, *, wall_seconds: float = 0.0) -> None:
        """A new process: its monotonic clock has nothing to do with the old one's."""
        self.clock.wall_now += wall_seconds
        self.clock.now = 17.0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "cache")


class TestRoundTrip:
    def test_what_was_stored_comes_back_with_how_long_ago_it_was_heard(
        self, machine: Machine
    ) -> None:
        machine.store(document(7))
        machine.restart(wall_seconds=90.0)

        stored = machine.snapshot().load()

        assert stored is not None
        assert (stored.body["meta"]["revision"], stored.etag, stored.silence) == (7, '"7"', 90.0)

    def test_a_newer_one_replaces_it_whole(self, machine: Machine) -> None:
        machine.store(document(7))
        machine.store(document(8))

        stored = machine.snapshot().load()

        assert stored is not None
        assert stored.body["meta"]["revision"] == 8
        assert len(list(machine.directory.iterdir())) == 1

    def test_no_file_is_no_policy(self, machine: Machine) -> None:
        assert machine.snapshot().load() is None

    def test_only_its_owner_may_read_it(self, machine: Machine) -> None:
        path = machine.store()

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_the_token_is_not_in_it(self, machine: Machine) -> None:
        path = machine.store()

        assert TOKEN not in path.read_text()
        assert TOKEN.rpartition("_")[2] not in path.read_text()
        assert TOKEN[3:15] not in f"{path.name} {path.read_text()}"

    def test_without_a_directory_nothing_is_stored(self) -> None:
        snapshot = Snapshot(settings(), FakeClock())

        assert (snapshot.save(document(7), None, SERVER_TIME, silence=0.0), snapshot.load()) == (
            False,
            None,
        )


class TestLeases:
    def test_a_lease_goes_on_while_the_process_is_away(self, machine: Machine) -> None:
        machine.store()
        machine.restart(wall_seconds=600.0)

        stored = machine.snapshot().load()

        assert stored is not None
        assert stored.server_time == SERVER_TIME + 600.0

    def test_a_wall_clock_set_back_gives_a_lease_no_more_time(self, machine: Machine) -> None:
        machine.store()
        machine.restart(wall_seconds=-86_400.0)

        stored = machine.snapshot().load()

        assert stored is not None
        assert (stored.server_time, stored.silence) == (SERVER_TIME, 0.0)


class TestUnusableFiles:
    def refused(self, machine: Machine, caplog: pytest.LogCaptureFixture) -> str:
        """Load twice; the one warning it is worth."""
        snapshot = machine.snapshot()
        caplog.clear()
        assert [snapshot.load(), snapshot.load()] == [None, None]
        assert len(caplog.records) == 1
        return caplog.text

    def test_a_damaged_file_is_ignored_with_one_warning(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = machine.store()
        path.write_bytes(path.read_bytes().replace(b'"revision":7', b'"revision":9'))

        assert "damaged" in self.refused(machine, caplog)

    @pytest.mark.parametrize("content", [b"", b"\n", b"garbage", b"\xff\xfe\x00"])
    def test_rubbish_is_ignored(
        self, machine: Machine, caplog: pytest.LogCaptureFixture, content: bytes
    ) -> None:
        machine.store().write_bytes(content)

        assert "damaged" in self.refused(machine, caplog)

    def test_a_truncated_file_is_ignored(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = machine.store()
        os.truncate(path, path.stat().st_size - 20)

        assert "damaged" in self.refused(machine, caplog)

    @pytest.mark.parametrize(
        "changes",
        [
            {"service": "other"},
            {"url": "http://elsewhere"},
            {"token": "hf_zzzzzzzzzzzz_" + TOKEN[16:]},
        ],
    )
    def test_another_services_file_is_ignored_even_under_our_name(
        self, machine: Machine, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
    ) -> None:
        ours = machine.store()
        theirs = machine.snapshot(**changes)
        theirs.save(document(3), None, SERVER_TIME, silence=0.0)
        assert theirs.path is not None
        assert theirs.path != ours
        theirs.path.replace(ours)

        assert "another service" in self.refused(machine, caplog)

    def test_a_file_others_can_write_is_ignored(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine.store().chmod(0o666)

        assert "others could have written it" in self.refused(machine, caplog)

    def test_a_link_is_not_followed(
        self, machine: Machine, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        path = machine.store()
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")

        assert self.refused(machine, caplog)

    def test_a_pipe_in_its_place_does_not_hold_the_start(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = machine.store()
        path.unlink()
        os.mkfifo(path)

        assert "plain file" in self.refused(machine, caplog)

    def test_a_file_that_is_far_too_large_is_not_read(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        os.truncate(machine.store(), 100 * 1024 * 1024)

        assert "too large" in self.refused(machine, caplog)


class TestDisksThatRefuse:
    def test_a_disk_that_fills_up_midway_leaves_the_old_file_and_no_rubbish(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = machine.store(document(7))
        large = document(8, flags={f"flag-{number}": flag() for number in range(500)})
        snapshot = machine.snapshot()

        with file_size_limited_to(4_096):
            saved = [snapshot.save(large, None, SERVER_TIME, silence=0.0) for _ in range(3)]

        stored = machine.snapshot().load()
        assert stored is not None
        assert (saved, stored.body["meta"]["revision"]) == ([False] * 3, 7)
        assert list(machine.directory.iterdir()) == [path]
        assert len(caplog.records) == 1

    def test_a_directory_that_cannot_be_is_survived_with_one_warning(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshot = Snapshot(settings(cache_dir=Path("/dev/null/cache")), FakeClock())

        saved = [snapshot.save(document(1), None, SERVER_TIME, silence=0.0) for _ in range(3)]

        assert saved == [False] * 3
        assert len(caplog.records) == 1

    def test_a_failed_write_leaves_the_old_file_and_no_rubbish(self, machine: Machine) -> None:
        path = machine.store(document(7))
        path.unlink()
        path.mkdir()  # the replace fails at its very last step

        assert machine.snapshot().save(document(8), None, SERVER_TIME, silence=0.0) is False

        assert list(machine.directory.iterdir()) == [path]


class TestKeeper:
    def test_what_came_in_force_is_stored(self, machine: Machine) -> None:
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        keeper = Keeper(machine.snapshot(), feed, machine.clock)
        self.offer(feed, machine, document(7))

        assert keeper.step() == float("inf")

        stored = machine.snapshot().load()
        assert stored is not None
        assert stored.body["meta"]["revision"] == 7

    def test_a_burst_of_changes_is_one_write_a_second(self, machine: Machine) -> None:
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        keeper = Keeper(machine.snapshot(), feed, machine.clock)
        self.offer(feed, machine, document(7))
        keeper.step()
        self.offer(feed, machine, document(8))

        assert keeper.step() == 1.0

        machine.clock.advance(1.0)
        assert keeper.step() == float("inf")

    def test_a_policy_with_leases_is_stamped_anew_every_minute(self, machine: Machine) -> None:
        """Else a wall clock set back later would give a lease the time since the write again."""
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        keeper = Keeper(machine.snapshot(), feed, machine.clock)
        leased = {"read-only": flag(expires_at=SERVER_TIME + 1_800)}
        self.offer(feed, machine, document(7, flags=leased))
        assert keeper.step() == 60.0
        machine.clock.advance(60.0)
        keeper.step()

        machine.restart(wall_seconds=-3_600.0)
        stored = machine.snapshot().load()

        assert stored is not None
        assert stored.server_time == SERVER_TIME + 60.0

    def test_a_long_silence_outlives_a_restart(self, machine: Machine) -> None:
        """Stamping a lease anew must not make a policy nobody confirmed look fresh."""
        ends = SERVER_TIME + 86_400
        flags = {"careful": flag(on_stale="revert"), "steady": flag(expires_at=ends)}
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        keeper = Keeper(machine.snapshot(), feed, machine.clock)
        self.offer(feed, machine, document(7, flags=flags))
        for _ in range(200):
            keeper.step()
            machine.clock.advance(60.0)
        keeper.finish()
        machine.restart(wall_seconds=1.0)

        assert self.stale_after_restart(machine) is True

    def test_what_was_heard_a_moment_before_a_restart_is_not_stale_after_it(
        self, machine: Machine
    ) -> None:
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        keeper = Keeper(machine.snapshot(), feed, machine.clock)
        self.offer(feed, machine, document(7, flags={"careful": flag(on_stale="revert")}))
        for _ in range(100):
            assert keeper.step() == 60.0
            machine.clock.advance(60.0)
            feed.heard()
        machine.restart(wall_seconds=10.0)

        assert self.stale_after_restart(machine) is False

    def test_a_wall_clock_set_back_does_not_bring_back_what_silence_ended(
        self, machine: Machine
    ) -> None:
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        self.offer(feed, machine, document(7, flags={"careful": flag(on_stale="revert")}))
        machine.clock.advance(400.0)
        Keeper(machine.snapshot(), feed, machine.clock).finish()
        machine.restart(wall_seconds=-86_400.0)

        assert self.stale_after_restart(machine) is True

    def test_silence_adds_up_over_processes_that_never_reached_the_server(
        self, machine: Machine
    ) -> None:
        machine.store(document(7, flags={"careful": flag(on_stale="revert")}))
        machine.restart(wall_seconds=100.0)
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        keeper = Keeper(machine.snapshot(), feed, machine.clock)
        keeper.restore()
        machine.clock.advance(250.0)
        keeper.step()
        machine.restart(wall_seconds=-3_600.0)

        assert self.stale_after_restart(machine) is True

    def test_a_short_time_to_staleness_is_stamped_more_often(self, machine: Machine) -> None:
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        reverting = {"careful": flag(on_stale="revert")}
        self.offer(feed, machine, document(7, flags=reverting, stale_after=50))

        assert Keeper(machine.snapshot(), feed, machine.clock).step() == 10.0

    def test_a_process_cut_off_does_not_replace_what_another_has_heard_since(
        self, machine: Machine
    ) -> None:
        reverting = {"careful": flag(on_stale="revert")}
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        keeper = Keeper(machine.snapshot(), feed, machine.clock)
        self.offer(feed, machine, document(7, flags=reverting))
        keeper.step()
        machine.store(document(8, flags=reverting))
        machine.clock.advance(60.0)

        keeper.step()

        stored = machine.snapshot().load()
        assert stored is not None
        assert stored.body["meta"]["revision"] == 8

    def stale_after_restart(self, machine: Machine) -> bool:
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        assert Keeper(machine.snapshot(), feed, machine.clock).restore()
        feed.watch_staleness()
        return feed.is_stale

    def test_what_came_last_is_stored_at_the_end(self, machine: Machine) -> None:
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        keeper = Keeper(machine.snapshot(), feed, machine.clock)
        self.offer(feed, machine, document(7))

        keeper.finish()

        assert machine.snapshot().load() is not None

    def test_a_policy_from_disk_comes_in_force_with_its_age(self, machine: Machine) -> None:
        leased = {"read-only": flag(expires_at=SERVER_TIME + 1_800)}
        machine.store(document(7, flags=leased, stale_after=60))
        machine.restart(wall_seconds=61.0)
        engine = RecordingEngine()
        feed = Feed(engine, machine.clock, lambda: None)

        assert Keeper(machine.snapshot(), feed, machine.clock).restore() is True

        feed.watch_staleness()
        assert engine.revisions == [7]
        assert engine.received[0].deadline(SERVER_TIME + 1_800) == machine.clock.now + 1_739.0
        assert engine.stale == [True]

    def test_a_policy_from_disk_is_not_stored_again(self, machine: Machine) -> None:
        """It would come out younger than it is."""
        machine.store(document(7))
        machine.restart(wall_seconds=500.0)
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        keeper = Keeper(machine.snapshot(), feed, machine.clock)
        keeper.restore()

        keeper.step()
        keeper.finish()

        stored = machine.snapshot().load()
        assert stored is not None
        assert stored.silence == 500.0

    def test_the_last_good_state_of_a_refused_entry_survives_a_restart(
        self, machine: Machine
    ) -> None:
        feed = Feed(RecordingEngine(), machine.clock, lambda: None)
        self.offer(feed, machine, document(7, dependencies={"db": {"retry": {"attempts": 2}}}))
        self.offer(feed, machine, document(8, dependencies={"db": {"retry": {"attempts": -1}}}))
        Keeper(machine.snapshot(), feed, machine.clock).finish()

        stored = machine.snapshot().load()

        assert stored is not None
        assert stored.body["dependencies"]["db"]["retry"]["attempts"] == 2
        assert json.dumps(stored.body)

    def offer(self, feed: Feed, machine: Machine, body: dict[str, Any]) -> None:
        feed.offer(
            encode(body),
            etag='"x"',
            asked_at=machine.clock.now,
            received=received(machine.clock),
        )


class TestSettings:
    def test_the_environment_fills_what_was_not_given(self, tmp_path: Path) -> None:
        environ = {
            "HOLDFAST_URL": "http://holdfast:8000/",
            "HOLDFAST_TOKEN": f" {TOKEN}\n",
            "HOLDFAST_SERVICE": "checkout",
            "HOLDFAST_CACHE_DIR": str(tmp_path),
        }

        found = resolve(None, None, None, None, environ)

        assert (found.url, found.token, found.service, found.cache_dir, found.problem) == (
            "http://holdfast:8000",
            TOKEN,
            "checkout",
            tmp_path,
            None,
        )

    def test_arguments_win_over_the_environment(self) -> None:
        environ = {"HOLDFAST_SERVICE": "checkout"}

        assert resolve(None, None, "billing", None, environ).service == "billing"

    @pytest.mark.parametrize(
        ("url", "token", "service", "problem"),
        [
            ("", TOKEN, "s", "no URL"),
            ("ftp://host", TOKEN, "s", "http://host"),
            ("holdfast:8000", TOKEN, "s", "http://host"),
            ("http://[::1", TOKEN, "s", "malformed"),
            ("http://ana:secret@host", TOKEN, "s", "no user, password"),
            ("http://host", "", "s", "no token"),
            ("http://host", "hunter2", "s", "form"),
            ("http://host", TOKEN, "", "no service"),
            ("http://host", TOKEN, "No Name", "lower-case"),
            ("http://host", TOKEN, "x" * 81, "1-80"),
        ],
    )
    def test_what_is_missing_or_malformed_is_named_without_being_quoted(
        self, url: str, token: str, service: str, problem: str
    ) -> None:
        said = resolve(url, token, service, None, {}).problem

        assert said is not None
        assert problem in said
        assert not any(secret in said for secret in ("secret", "hunter2"))

    def test_the_cache_directory_is_the_users_own(self) -> None:
        assert default_cache_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/holdfast")
        found = default_cache_dir({})
        assert found is not None
        assert found.name == "holdfast"


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="holdfast")
