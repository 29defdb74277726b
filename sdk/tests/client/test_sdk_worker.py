"""Background threads that no error ends."""

import logging
import threading

import pytest

from holdfast._worker import Worker
from sdk.tests.client.world import eventually


def test_a_step_that_raises_is_logged_and_the_thread_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[int] = []

    def step() -> float:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("bug")
        return 3600.0

    worker = Worker("worker", step)
    worker.start()
    eventually(lambda: "it goes on" in caplog.text)

    worker.wake()

    eventually(lambda: len(calls) == 2)
    assert worker.is_alive
    worker.stop()
    worker.join(10)
    assert not worker.is_alive


def test_an_error_of_a_worker_that_was_told_to_stop_is_no_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    entered, leave = threading.Event(), threading.Event()

    def step() -> float:
        entered.set()
        leave.wait(10)
        raise RuntimeError("the connection was closed under it")

    worker = Worker("worker", step)
    worker.start()
    entered.wait(10)
    worker.stop()
    leave.set()
    worker.join(10)

    assert caplog.text == ""


def test_started_twice_it_runs_once() -> None:
    threads: set[int] = set()

    def step() -> float:
        threads.add(threading.get_ident())
        return 3600.0

    worker = Worker("worker", step)
    worker.start()
    worker.start()
    eventually(lambda: threads)

    worker.stop()
    worker.join(10)
    assert len(threads) == 1


def test_a_wake_during_a_step_is_not_lost() -> None:
    calls: list[int] = []
    worker: Worker

    def step() -> float:
        calls.append(1)
        if len(calls) == 1:
            worker.wake()
        return 3600.0

    worker = Worker("worker", step)
    worker.start()

    eventually(lambda: len(calls) == 2)
    worker.stop()
    worker.join(10)
