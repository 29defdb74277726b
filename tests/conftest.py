"""What the server's tests share: databases, real servers, a browser."""

import os
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import TransactionTestCase
from pytest_django import DjangoDbBlocker

from tests.run import MIGRATED_POSTGRESQL, MIGRATED_SQLITE
from tests.servers import browser, postgresql_url, rabbitmq_url, redis_url

DATABASE_FIXTURES = {"db", "transactional_db", "live_server", "shared_rows"}

__all__ = ["browser", "postgresql_url", "rabbitmq_url", "redis_url"]


def pytest_configure() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On PostgreSQL only what may differ there: every test runs on SQLite besides."""
    if not settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        items[:] = [item for item in items if asks_the_database(item)]


def asks_the_database(item: pytest.Item) -> bool:
    if item.get_closest_marker("one_database") is not None:
        return False
    fixtures = set(getattr(item, "fixturenames", ()))
    return item.get_closest_marker("django_db") is not None or bool(fixtures & DATABASE_FIXTURES)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Begin with a copy of a database that has all tables, where `tests.run` has made one.

    On SQLite a file: several threads cannot write to a database in memory.
    """
    database = settings.DATABASES["default"]
    of_tests = database.setdefault("TEST", {})
    if database["ENGINE"].endswith("sqlite3"):
        of_tests["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")
        if migrated := os.environ.get(MIGRATED_SQLITE):
            shutil.copy(migrated, of_tests["NAME"])
    elif migrated := os.environ.get(MIGRATED_POSTGRESQL):
        of_tests["TEMPLATE"] = urlsplit(migrated).path.strip("/")


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Whether the database is there already."""
    is_sqlite = settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
    return is_sqlite and MIGRATED_SQLITE in os.environ


@pytest.fixture(scope="session", autouse=True)
def flush_past_the_audit_triggers() -> Iterator[None]:
    """Transactional tests end with a flush, which the audit log's triggers would refuse."""
    from apps.audit import triggers  # needs Django's settings, so not before pytest-django is up

    flush = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]  # Django's own

    def flush_with_triggers_lifted(case: TransactionTestCase) -> None:
        with triggers.lifted():
            flush(case)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", flush_with_triggers_lifted)
        yield


@pytest.fixture(scope="module")
def shared_rows(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A transaction around a module's tests, for rows that all of them find and none can change.

    Each test has its own transaction inside, so this is not for tests that have none.
    """
    with django_db_blocker.unblock(), transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture(autouse=True)
def count_refusals_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases that are rolled back give the next test's people the same ids."""
    from apps.audit import bounds

    monkeypatch.setattr(bounds, "current", bounds.Bounds())


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """As pytest-django's; a connection some thread still holds must not keep the database."""
    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
