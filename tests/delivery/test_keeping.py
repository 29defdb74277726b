"""What was last published outlives the process, for a start without the database."""

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError

from apps.core.pace import Pace
from apps.delivery import state as state_module
from apps.delivery.answers import Asked, answer, token_in
from apps.delivery.keeping import NAME, Published
from apps.delivery.state import State
from apps.fleet.models import Environment
from tests import make
from tests.delivery.test_answers import NOW

pytestmark = pytest.mark.django_db

PACE = Pace(10.0, 5.0, 0.2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / NAME


@pytest.fixture
def where() -> Environment:
    where = make.environment("production")
    make.publish(where, make.flag_piece("read-only"), make.use("checkout", "payments-api"))
    return where


@pytest.fixture
def token(where: Environment) -> str:
    return make.token(of=make.service(where, "checkout"))[1]


@pytest.fixture
def kept(path: Path, token: str) -> State:
    """A process that has read its database, and kept what it found."""
    known = State()
    known.file = Published(path)
    known.refresh()
    known.keep()
    return known


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, kept: State) -> None:
    def fail(*_arguments: Any) -> None:
        raise OperationalError("could not connect")

    monkeypatch.setattr(state_module, "current_epoch", fail)


def restarted(path: Path) -> State:
    """A process that starts now, and cannot reach its database."""
    known = State()
    known.file = Published(path)
    with pytest.raises(OperationalError):
        known.refresh()
    return known


def asked(known: State, token: str) -> tuple[int, dict[str, str], bytes]:
    ask = Asked("GET", "checkout", NOW, time.monotonic(), token=token_in(f"Bearer {token}"))
    return answer(ask, known.snapshot)


@pytest.mark.usefixtures("unreachable")
class TestStartWithoutDatabase:
    def test_serves_what_was_last_published(self, kept: State, path: Path, token: str) -> None:
        again = restarted(path)

        assert asked(again, token)[2] == asked(kept, token)[2]
        assert again.is_ready

    def test_says_how_old_it_is(self, path: Path, token: str) -> None:
        os.utime(path, (time.time() - 90, time.time() - 90))

        _status, headers, _body = asked(restarted(path), token)

        assert headers["Policy-Stale"] in ("90", "91")

    def test_believes_no_token_after_a_day(self, path: Path, token: str) -> None:
        os.utime(path, (time.time() - 86_500, time.time() - 86_500))

        assert asked(restarted(path), token)[0] == 503

    def test_lets_nobody_in_who_could_not_come_in_before(self, path: Path, where: Any) -> None:
        assert asked(restarted(path), make.token(where)[1])[0] == 401

    def test_never_serves_another_databases_policies(
        self, path: Path, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(settings.DATABASES["default"], "PORT", "5433")

        assert restarted(path).snapshot is None

    @pytest.mark.parametrize("content", [b"", b"\x00garbage", b"\x93\x01\x02\x03"])
    def test_a_broken_file_is_no_policy(self, path: Path, token: str, content: bytes) -> None:
        path.write_bytes(content)

        assert restarted(path).snapshot is None

    def test_without_a_file_it_is_starting(self, path: Path, token: str) -> None:
        path.unlink()

        assert asked(restarted(path), token)[0] == 503


class TestKeeping:
    def test_nobody_else_may_read_it(self, kept: State, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_no_secret_is_in_it(self, kept: State, path: Path, token: str) -> None:
        assert token.rpartition("_")[2].encode() not in path.read_bytes()

    def test_what_is_published_later_is_kept_too(
        self, kept: State, path: Path, where: Environment
    ) -> None:
        make.publish(where, make.flag_piece("later"))
        kept.hear("published")
        kept.refresh()
        kept.keep()

        found = Published(path).read(PACE)

        assert found is not None
        assert b"later" in found.places[where.pk].document("checkout").body

    def test_without_news_only_its_time_is_set(self, kept: State, path: Path) -> None:
        before = path.stat()
        os.utime(path, (1, 1))
        kept.hear("published")
        kept.refresh()
        kept.keep()

        assert (path.stat().st_ino, path.stat().st_mtime > 1) == (before.st_ino, True)

    def test_it_ages_while_the_database_is_away(self, kept: State, path: Path) -> None:
        assert kept.snapshot is not None
        object.__setattr__(kept.snapshot, "reached_at", time.monotonic() - 60)

        kept.keep()

        assert time.time() - path.stat().st_mtime == pytest.approx(60, abs=5)

    def test_a_disk_that_takes_nothing_stops_nobody(
        self, where: Environment, token: str, tmp_path: Path
    ) -> None:
        known = State()
        known.file = Published(tmp_path / "no" / "such" / "directory" / NAME)

        known.refresh()
        known.keep()

        assert asked(known, token)[0] == 200

    def test_the_database_has_the_last_word_when_it_is_back(
        self, kept: State, path: Path, where: Environment, token: str
    ) -> None:
        again = State()
        again.file = Published(path)
        again.snapshot, again._is_kept = again.file.read(PACE), True
        make.publish(where, make.flag_piece("meanwhile"))

        again.refresh()

        assert b"meanwhile" in asked(again, token)[2]
        assert "Policy-Stale" not in asked(again, token)[1]
