"""What the server's tests share: databases, real servers, a browser."""

import pytest
from django.conf import settings

from tests.servers import browser, postgresql_url, rabbitmq_url, redis_url

__all__ = ["browser", "postgresql_url", "rabbitmq_url", "redis_url"]


def pytest_configure() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On SQLite, test against a file: several threads cannot write to a database in memory."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        file = tmp_path_factory.mktemp("database") / "test.sqlite3"
        database.setdefault("TEST", {})["NAME"] = str(file)
