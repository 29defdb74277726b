"""System checks of the configuration: what is half set is refused at start, with a hint."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error


def deployment(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Errors `holdfast.E001` to `E006`: settings that cannot work."""
    found: list[CheckMessage] = []
    if settings.REDIS_URL and settings.ON_SQLITE:
        found.append(
            Error(
                "REDIS_URL is set, but the database is SQLite, which several processes "
                "on several machines cannot share.",
                hint="Set DATABASE_URL=postgres://… as well, or unset REDIS_URL to run embedded.",
                id="holdfast.E001",
            )
        )
    if not settings.REDIS_URL and not settings.ON_SQLITE:
        found.append(
            Error(
                "The database is PostgreSQL, but REDIS_URL is not set, so that processes "
                "could not tell each other of changes.",
                hint="Set REDIS_URL=redis://… as well, or unset DATABASE_URL to run embedded.",
                id="holdfast.E002",
            )
        )
    if settings.EMBEDDED and not settings.CELERY_BROKER_URL.startswith("memory:"):
        found.append(
            Error(
                "A Celery broker is set, but the server runs embedded, with its worker inside.",
                hint="Unset CELERY_BROKER_URL and RABBITMQ_URL, or set DATABASE_URL and REDIS_URL.",
                id="holdfast.E003",
            )
        )
    if not settings.EMBEDDED and not settings.SECRET_KEY_CONFIGURED:
        found.append(
            Error(
                "SECRET_KEY is not set, and several processes must share one.",
                hint="Set SECRET_KEY, or SECRET_KEY_FILE with the path of a file that holds it.",
                id="holdfast.E004",
            )
        )
    if settings.HEALTH_CHECK_SECONDS < 1 or not 0 <= settings.HEALTH_ALERT_THRESHOLD <= 1:
        found.append(
            Error(
                "HEALTH_CHECK_INTERVAL is under a second, or HEALTH_ALERT_THRESHOLD is no share.",
                hint="The interval is in milliseconds, such as 30000; the threshold from 0 to 1.",
                id="holdfast.E005",
            )
        )
    if not settings.EMBEDDED and settings.CELERY_BROKER_URL.startswith("memory:"):
        found.append(
            Error(
                "The Celery broker is this process's own memory, which no worker can reach.",
                hint="Unset CELERY_BROKER_URL, so that REDIS_URL or RABBITMQ_URL is the broker.",
                id="holdfast.E006",
            )
        )
    return found
