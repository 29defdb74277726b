"""System check: the database refuses changes of the audit log."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error
from django.db import connections

from apps.audit import triggers


def triggers_present(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Error `holdfast.E101` when an append-only trigger is missing."""
    found: list[CheckMessage] = []
    for alias in databases or []:
        db = connections[alias]
        if triggers.TABLE not in db.introspection.table_names():
            continue  # not migrated yet: `migrate` will make table and triggers together
        if names := triggers.missing(db):
            found.append(
                Error(
                    f"The audit log can be changed: trigger {', '.join(names)} is missing.",
                    hint="Run `manage.py migrate --skip-checks`; it puts the triggers back.",
                    id="holdfast.E101",
                )
            )
    return found
