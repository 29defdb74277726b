"""What the server writes to disk is for nobody else's eyes."""

import os
import subprocess
import sys
from pathlib import Path
from stat import S_IMODE

from controlplane.management.commands.firstrun import keep_credentials

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {"DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "SECRET_KEY", "CELERY_BROKER_URL"}


def test_a_first_start_keeps_others_out(tmp_path: Path) -> None:
    var = tmp_path / "deep" / "var"
    own = {name: value for name, value in os.environ.items() if name not in NOT_OURS}

    subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env=own | {"HOLDFAST_VAR": str(var)},
        check=True,
        capture_output=True,
        umask=0o022,
    )

    assert S_IMODE(var.stat().st_mode) == 0o700
    assert S_IMODE((var / "secret-key").stat().st_mode) == 0o600


def test_credentials_are_the_owners_whatever_was_there(tmp_path: Path, settings: object) -> None:
    settings.VAR_DIR = tmp_path  # type: ignore[attr-defined]  # pytest-django's
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("")
    (tmp_path / "credentials").symlink_to(elsewhere)

    path = keep_credentials("operator", "a password")

    assert S_IMODE(path.stat().st_mode) == 0o600
    assert elsewhere.read_text() == ""
