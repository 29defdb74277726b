"""`manage.py firstrun`: make a fresh database usable; on a used one it changes nothing."""

import os
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from apps.accounts import services as accounts
from apps.accounts.models import User
from apps.core.actor import command
from apps.fleet import services as fleet
from apps.fleet.models import Environment


class Command(BaseCommand):
    help = "Create the environment and an operator with a generated password, if there are none."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--environment", default="production")

    def handle(self, *args: Any, **options: Any) -> None:
        actor = command("firstrun", frozenset())
        if not Environment.objects.exists():
            fleet.create_environment(options["environment"], actor=actor)
        if not User.objects.exists():
            password = kept_password() or secrets.token_urlsafe(15)
            accounts.create_user("operator", password=password, is_superuser=True, actor=actor)
            path = keep_credentials("operator", password)
            self.stdout.write(f"Log in as operator with the password {password}")
            self.stdout.write(f"(also in {path}, readable by you alone)")
        else:
            self.stdout.write(f"Log in with the password in {settings.VAR_DIR / 'credentials'}")


def kept_password() -> str:
    """The operator's, if `var/credentials` has one: of another database here, such as the demo's.

    One file cannot tell two passwords apart.
    """
    path = Path(settings.VAR_DIR) / "credentials"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [line.removeprefix("password: ") for line in lines if line.startswith("password: ")]
    return found[0] if "username: operator" in lines and found else ""


def keep_credentials(username: str, password: str) -> Path:
    """Write them to `var/credentials`, mode 0600 from its first byte on."""
    path = Path(settings.VAR_DIR) / "credentials"
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(f"username: {username}\npassword: {password}\n")
    return path
