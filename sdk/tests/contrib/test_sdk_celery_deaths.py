"""Celery tasks that kill their worker do not come again for ever: real workers, really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, signals
from celery.exceptions import Reject, Retry
from redis import Redis as RedisClient

from deploy.local_servers import Redis
from holdfast.contrib._deaths import KEPT_SECONDS, Deaths, FileNotes, Notes, RedisNotes, WorkerDied
from holdfast.contrib.celery import connect
from holdfast.testing import LocalHoldfast
from sdk.tests.client.server import PolicyServer
from sdk.tests.client.world import TOKEN, document, eventually


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with Redis() as redis:
        yield redis.url


def sender_to(broker: str, options: dict[str, Any]) -> Celery:
    app = Celery("sender", broker=broker, set_as_current=False)
    app.conf.update(task_default_queue="killers", broker_transport_options=options)
    return app


@pytest.fixture
def sender(broker: str) -> Celery:
    # What a dead worker held comes again as soon as the next one begins.
    return sender_to(broker, {"visibility_timeout": 0})


@pytest.fixture
def sender_of_files(tmp_path: Path) -> Celery:
    folder = tmp_path / "broker"
    folder.mkdir()
    names = ("data_folder_in", "data_folder_out", "control_folder")
    folders = dict.fromkeys(names, str(folder))
    return sender_to("filesystem://", folders)


class Fleet:
    """The workers of one service, and what reached Holdfast of them."""

    def __init__(self, server: PolicyServer, sender: Celery, folder: Path) -> None:
        self._server = server
        self._runs = folder / "runs"
        self._log = folder / "log"
        self._worker: subprocess.Popen[bytes] | None = None
        # Neither Django nor coverage has a say in what gets killed.
        ours = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        self._environ = {
            **ours,
            "KILLERS_BROKER": sender.conf.broker_url,
            "KILLERS_OPTIONS": json.dumps(sender.conf.broker_transport_options),
            "KILLERS_RUNS": str(self._runs),
            "HOLDFAST_URL": server.url,
            "HOLDFAST_TOKEN": TOKEN,
            "HOLDFAST_SERVICE": "checkout",
            "HOLDFAST_CACHE_DIR": str(folder / "cache"),
        }

    def start(self, *, deaths: int) -> None:
        command = "-m celery -A sdk.tests.contrib.killers worker -c 1 --without-mingle"
        with self._log.open("ab") as log:
            self._worker = subprocess.Popen(
                [sys.executable, *command.split()],
                env={**self._environ, "KILLERS_DEATHS": str(deaths)},
                stdout=log,
                stderr=log,
            )

    def wait_for_its_death(self) -> None:
        assert self._worker is not None
        assert self._worker.wait(30) == -signal.SIGKILL, self._log.read_text()

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.kill()  # its children go with it
            self._worker.wait(30)

    def runs(self, order: str) -> int:
        return self._runs.read_text().splitlines().count(order) if self._runs.exists() else 0

    def letter_of(self, order: str) -> dict[str, Any]:
        """The one letter of an order, once it is there."""
        kept = self._server.desk.letters
        eventually(lambda: kept, seconds=30, what="no letter came")
        (item,) = [item for item in kept.values() if order in item["body"]["data"]]
        return item


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Celery], Fleet]]:
    """Makes the fleet that works for a sender."""
    with ExitStack() as ends, PolicyServer() as server:
        server.publish(document(1))

        def started(sender: Celery) -> Fleet:
            fleet = Fleet(server, sender, tmp_path)
            ends.callback(fleet.stop)
            return fleet

        yield started


class TestRealWorkers:
    @pytest.mark.parametrize("broker_of", ["sender", "sender_of_files"])
    def test_a_task_that_kills_its_child_becomes_a_letter_and_the_next_one_runs(
        self, start: Callable[[Celery], Fleet], request: pytest.FixtureRequest, broker_of: str
    ) -> None:
        sender = request.getfixturevalue(broker_of)
        fleet = start(sender)
        fleet.start(deaths=1)
        sender.send_task("killers.child", ["order 1"])
        sender.send_task("killers.harmless", ["order 2"])

        item = fleet.letter_of("order 1")
        eventually(lambda: fleet.runs("order 2"), what="the next task did not run")

        assert (item["reason"], item["handler"]) == ("worker_lost", "killers.child")
        assert item["error"]["message"] == "its worker died once while it ran"
        assert fleet.runs("order 1") == 1

    def test_one_that_kills_the_whole_worker_does_so_no_more_often(
        self, start: Callable[[Celery], Fleet], sender: Celery
    ) -> None:
        fleet = start(sender)
        sender.send_task("killers.worker", ["order 3"])
        for _ in range(2):
            fleet.start(deaths=2)
            fleet.wait_for_its_death()
        fleet.start(deaths=2)

        item = fleet.letter_of("order 3")

        assert (item["reason"], fleet.runs("order 3")) == ("worker_lost", 2)


@pytest.fixture(params=["files", "redis"])
def notes(request: pytest.FixtureRequest, sender: Celery, tmp_path: Path) -> Notes:
    return FileNotes(tmp_path / "started") if request.param == "files" else RedisNotes(sender)


class TestNotes:
    def test_starts_without_an_end_are_counted_for_each_task(self, notes: Notes) -> None:
        task = str(uuid.uuid4())

        assert [notes.begin(task), notes.begin(task), notes.begin(str(uuid.uuid4()))] == [1, 2, 1]

    def test_an_end_forgets_them(self, notes: Notes) -> None:
        notes.begin("task/../1")
        notes.end("task/../1")
        notes.end("never begun")

        assert notes.begin("task/../1") == 1

    def test_a_file_of_the_day_before_yesterday_says_nothing(self, tmp_path: Path) -> None:
        notes = FileNotes(tmp_path)
        notes.begin("old")
        notes.begin("other")
        for path in tmp_path.iterdir():
            os.utime(path, (1, 1))

        assert notes.begin("old") == 1
        notes.clean()
        assert len(list(tmp_path.iterdir())) == 1

    def test_nor_does_redis_keep_them_for_ever(self, sender: Celery, broker: str) -> None:
        RedisNotes(sender).begin("forgotten")

        with RedisClient.from_url(broker) as client:
            assert 0 < int(client.ttl("holdfast:started:forgotten")) <= KEPT_SECONDS


class TestProtection:
    """In this process: `start` does what a worker does before it runs a task."""

    @pytest.fixture
    def app(self) -> Celery:
        app = Celery("protected", broker="memory://", set_as_current=False)
        app.conf.task_acks_late = True

        @app.task(name="charge", shared=False)
        def charge(outcome: Exception | None = None) -> str:
            if outcome is not None:
                raise outcome
            return "charged"

        return app

    @pytest.fixture
    def charge(self, app: Celery, tmp_path: Path) -> Any:
        deaths = Deaths(app, tmp_path, most=2)
        deaths.protect()
        deaths.protect()
        return app.tasks["charge"]

    def start(self, charge: Any, outcome: Exception | None = None) -> Any:
        charge.push_request(id="task-1", called_directly=False)
        try:
            return charge.run(outcome)
        finally:
            charge.pop_request()

    def die(self, tmp_path: Path, times: int) -> None:
        for _ in range(times):
            FileNotes(tmp_path).begin("task-1")

    def test_it_runs_until_it_has_died_too_often(self, charge: Any, tmp_path: Path) -> None:
        self.die(tmp_path, times=1)
        assert self.start(charge) == "charged"

        self.die(tmp_path, times=2)
        with pytest.raises(WorkerDied):
            self.start(charge)

    def test_refused_once_it_may_be_tried_again(self, charge: Any, tmp_path: Path) -> None:
        self.die(tmp_path, times=2)
        with pytest.raises(WorkerDied):
            self.start(charge)

        assert self.start(charge) == "charged"

    @pytest.mark.parametrize("outcome", [ValueError(), Retry(), Reject()])
    def test_failures_and_retries_are_no_deaths(self, charge: Any, outcome: Exception) -> None:
        for _ in range(5):
            with pytest.raises(type(outcome)):
                self.start(charge, outcome)

    def test_what_is_acknowledged_early_never_comes_again_and_is_not_counted(
        self, charge: Any, tmp_path: Path
    ) -> None:
        charge.acks_late = False
        self.die(tmp_path, times=2)

        assert self.start(charge) == "charged"

    def test_calling_the_function_is_no_task(self, charge: Any, tmp_path: Path) -> None:
        self.die(tmp_path, times=2)

        assert charge() == "charged"

    def test_where_nothing_can_be_noted_tasks_run_and_the_log_says_so_once(
        self, app: Celery, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        Deaths(app, tmp_path / "file", most=1).protect()

        for _ in range(3):
            assert self.start(app.tasks["charge"]) == "charged"
        assert caplog.text.count("are not counted") == 1

    def test_zero_watches_nothing(self, app: Celery) -> None:
        hf = LocalHoldfast()
        run = app.tasks["charge"].run

        connect(hf, app, deaths=0)
        signals.worker_init.send(sender=None)

        assert app.tasks["charge"].run is run
