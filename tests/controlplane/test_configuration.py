"""What is half set is refused, by whichever process comes first; what is set is kept whole."""

from pathlib import Path

import pytest
from celery.signals import beat_init, worker_init
from celery.utils.dispatch import Signal
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from controlplane import celery_app
from controlplane import settings as source
from controlplane.checks import deployment


@pytest.fixture
def distributed(settings: Settings) -> Settings:
    settings.EMBEDDED = settings.ON_SQLITE = False
    settings.REDIS_URL = settings.CELERY_BROKER_URL = "redis://redis:6379/0"
    settings.SECRET_KEY_CONFIGURED = True
    return settings


class TestDistributed:
    def test_what_is_whole_is_let_through(self, distributed: Settings) -> None:
        assert deployment(None) == []

    def test_a_broker_in_memory_is_refused(self, distributed: Settings) -> None:
        distributed.CELERY_BROKER_URL = "memory://localhost"

        assert [error.id for error in deployment(None)] == ["holdfast.E006"]

    @pytest.mark.parametrize("starts", [worker_init, beat_init], ids=["worker", "beat"])
    def test_worker_and_beat_end_with_the_hint(self, distributed: Settings, starts: Signal) -> None:
        distributed.SECRET_KEY_CONFIGURED = False

        with pytest.raises(SystemExit, match="HINT: Set SECRET_KEY"):
            starts.send(sender=celery_app)


class TestSecretKey:
    @pytest.fixture(autouse=True)
    def nothing_configured(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("SECRET_KEY", raising=False)
        monkeypatch.setattr(source, "VAR_DIR", tmp_path)

    def test_one_is_made_once_for_nobody_elses_eyes(self, tmp_path: Path) -> None:
        keys = {source._secret_key() for _process in range(2)}

        assert len(keys) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["secret-key"]
        assert (tmp_path / "secret-key").stat().st_mode & 0o777 == 0o600

    def test_of_two_processes_the_first_ones_is_kept(self, tmp_path: Path) -> None:
        first = source._secret_key()

        source._keep_new_key(tmp_path / "secret-key")

        assert source._secret_key() == first

    def test_an_empty_one_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "secret-key").touch()

        with pytest.raises(ImproperlyConfigured, match="is empty"):
            source._secret_key()
