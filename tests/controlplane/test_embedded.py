"""Celery inside the web process: it ticks, it runs tasks, it comes back, it stops."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import structlog
from celery import Celery, current_app
from django_structlog.celery.steps import DjangoStructLogInitStep

from controlplane import celery_app, tasks
from controlplane.embedded import EmbeddedCelery


@pytest.fixture
def app() -> Iterator[Celery]:
    """An application of the test's own, whose timetable is the pulse, five times a second."""
    own = Celery("embedded-test", broker="memory://localhost", set_as_current=False)
    own.conf.update(
        broker_transport_options={"polling_interval": 0.02},
        task_default_queue=f"test-{time.monotonic_ns()}",
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        beat_schedule={"pulse": {"task": "test.pulse", "schedule": 0.2}},
    )
    own.task(name="test.pulse", ignore_result=True, shared=False)(tasks.restart_age)
    own.set_default()
    yield own
    celery_app.set_default()
    own.close()


@pytest.fixture
def celery(app: Celery) -> Iterator[EmbeddedCelery]:
    embedded = EmbeddedCelery(app)
    embedded.start()
    yield embedded
    embedded.stop()


def wait_for(is_so: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_pulsing(app: Celery) -> Callable[[], bool]:
    """Whether a task has run since this was called."""
    asked_at = time.monotonic()
    return lambda: tasks.age() < time.monotonic() - asked_at - 0.1


def test_beat_sends_and_the_worker_runs(app: Celery) -> None:
    ran = threading.Event()
    app.task(name="test.run", ignore_result=True, shared=False)(ran.set)
    embedded = EmbeddedCelery(app)
    embedded.start()
    try:
        app.send_task("test.run")

        assert ran.wait(10.0)
        wait_for(is_pulsing(app))
        assert embedded.age < 5.0
    finally:
        embedded.stop()


def test_a_task_logs_with_the_id_of_the_request_that_sent_it(app: Celery) -> None:
    app.steps["worker"].add(DjangoStructLogInitStep)  # as controlplane.celery does
    seen: list[object] = []
    ran = threading.Event()

    @app.task(name="test.look", ignore_result=True, shared=False)
    def look() -> None:
        seen.append(structlog.contextvars.get_contextvars().get("request_id"))
        ran.set()

    embedded = EmbeddedCelery(app)
    embedded.start()
    try:
        with structlog.contextvars.bound_contextvars(request_id="click-7"):
            app.send_task("test.look")

        assert ran.wait(10.0)
    finally:
        embedded.stop()
    assert seen == ["click-7"]


@pytest.mark.parametrize("part", ["worker", "beat"])
def test_a_part_that_died_is_started_again(app: Celery, celery: EmbeddedCelery, part: str) -> None:
    wait_for(is_pulsing(app))
    pair = celery._pair
    assert pair is not None

    (pair.worker.stop if part == "worker" else pair.beat.service.stop)()
    wait_for(lambda: celery.restarts == 1 and celery._pair is not pair)

    wait_for(is_pulsing(app))


def test_one_that_gets_nothing_done_is_started_again(app: Celery) -> None:
    app.conf.beat_schedule = {}  # so nothing is ever sent
    embedded = EmbeddedCelery(app, dead_after_seconds=0.5)
    embedded.start()
    try:
        wait_for(lambda: embedded.restarts >= 1)
    finally:
        embedded.stop()


def test_every_thread_finds_our_application() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(current_app.main))
    thread.start()
    thread.join()

    assert found == ["holdfast"]


def test_stop_leaves_no_thread_behind(app: Celery) -> None:
    before = set(threading.enumerate())
    embedded = EmbeddedCelery(app)
    embedded.start()
    wait_for(is_pulsing(app))

    embedded.stop()

    wait_for(lambda: set(threading.enumerate()) <= before)
