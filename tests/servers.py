"""Real servers and a real browser for the tests, as fixtures.

`make test` starts each server once and names it in the environment, so that all workers share it; a
plain `pytest` starts what it needs. A test that stops, kills or pauses a server makes one of its
own: `with Redis() as redis: redis.pause()`.
"""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from deploy.local_servers import LocalServer, PostgreSQL, RabbitMQ, Redis

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def shared_name(kind: type[LocalServer]) -> str:
    """The environment variable that names the run's server of this kind."""
    return f"TEST_{kind.name.upper()}_URL"


def _shared(kind: type[LocalServer]) -> Iterator[str]:
    if url := os.environ.get(shared_name(kind)):
        yield url
    else:
        with kind() as server:
            yield server.url


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """PostgreSQL; other tests use it at the same time, so make a database of your own in it."""
    yield from _shared(PostgreSQL)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Redis; other tests use it at the same time, so flush nothing."""
    yield from _shared(Redis)


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """RabbitMQ; other tests use it at the same time, so give queues names of your own."""
    yield from _shared(RabbitMQ)


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Chromium, headless, with a fresh profile.

    Not shared between tests: an open synchronous Playwright keeps an event loop running in the
    thread, in which neither asynchronous tests nor Django's ORM work.
    """
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise RuntimeError("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=BROWSER_FLAGS)
        try:
            yield started
        finally:
            started.close()
