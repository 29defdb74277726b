"""Tasks of a real Celery worker become dead letters when they fail for good, and are sent again."""

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker

from holdfast import Holdfast
from holdfast.contrib.celery import connect
from sdk.tests.client.server import PolicyServer
from sdk.tests.client.world import QUICK, TOKEN, document, eventually

runs: Counter[str] = Counter()
fails: set[str] = set()


@pytest.fixture(scope="module")
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        server.publish(document(1))
        yield server


@pytest.fixture(scope="module")
def app(server: PolicyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Celery]:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(task_default_queue=f"shop-{uuid.uuid4()}", broker_connection_retry=False)

    @app.task(name="shop.charge", bind=True, max_retries=2, retry_backoff=False)
    def charge(task: Any, order: str, *, cents: int = 0) -> None:
        runs[order] += 1
        try:
            if order in fails:
                raise ConnectionError(f"{order} is down")
        except ConnectionError as error:
            raise task.retry(exc=error, countdown=0) from error

    cache = tmp_path_factory.mktemp("cache")
    hf = Holdfast(server.url, TOKEN, service="checkout", cache_dir=cache, timing=QUICK)
    connect(hf, app)
    with start_worker(app, pool="solo", perform_ping_check=False):
        signals.worker_ready.send(sender=None)  # which the worker for tests leaves out
        yield app
    hf.close()


def letters(server: PolicyServer, order: str) -> list[dict[str, Any]]:
    kept = list(server.desk.letters.values())
    return [item for item in kept if order in item["body"]["data"]]


def test_a_task_that_used_up_its_retries_is_one_letter(server: PolicyServer, app: Celery) -> None:
    fails.add("order 1")

    sent = app.tasks["shop.charge"].apply_async(("order 1",), {"cents": 5}, task_id="task-1")
    eventually(lambda: letters(server, "order 1"))

    (item,) = letters(server, "order 1")
    assert (item["handler"], item["attempts"]) == ("shop.charge", 3)
    assert (item["reason"], item["idempotency_key"]) == ("retries_exhausted", "task-1")
    assert item["error"]["message"] == "order 1 is down"
    body = json.loads(item["body"]["data"])
    assert (body["id"], body["args"], body["kwargs"]) == (sent.id, ["order 1"], {"cents": 5})
    assert runs["order 1"] == 3


def test_a_task_that_succeeds_after_a_retry_is_none(server: PolicyServer, app: Celery) -> None:
    app.tasks["shop.charge"].delay("order 2")
    eventually(lambda: runs["order 2"])
    fails.add("order 2 end")
    app.tasks["shop.charge"].delay("order 2 end")
    eventually(lambda: letters(server, "order 2 end"))

    assert len(letters(server, "order 2")) == 1  # that of the last one only


def test_a_redrive_sends_it_again_under_the_same_id_and_key(
    server: PolicyServer, app: Celery
) -> None:
    fails.add("order 3")
    charge = app.tasks["shop.charge"]
    charge.apply_async(("order 3",), task_id="task-3", headers={"idempotency_key": "charge 3"})
    eventually(lambda: letters(server, "order 3"))
    (first,) = letters(server, "order 3")

    offer(server, 31, first)
    eventually(lambda: len(letters(server, "order 3")) == 2)
    _, second = letters(server, "order 3")
    fails.discard("order 3")
    offer(server, 32, second)
    eventually(lambda: 32 in server.desk.outcomes("resolved") and runs["order 3"] == 7)

    assert (first["idempotency_key"], second["idempotency_key"]) == ("charge 3", "charge 3")
    assert json.loads(second["body"]["data"])["id"] == "task-3"
    assert len(letters(server, "order 3")) == 2


def test_a_task_no_worker_has_is_kept_for_one_that_will(server: PolicyServer, app: Celery) -> None:
    app.send_task("shop.unheard-of", args=["order 4"], task_id="task-4")

    eventually(lambda: letters(server, "order 4"))

    (item,) = letters(server, "order 4")
    assert (item["handler"], item["reason"]) == ("shop.unheard-of", "rejected")


def test_a_message_that_is_no_task_is_kept_as_it_came(server: PolicyServer, app: Celery) -> None:
    with app.connection_for_write() as connection:
        producer = connection.Producer(serializer="json")
        producer.publish({"no": "task"}, routing_key=app.conf.task_default_queue)

    eventually(lambda: any(item["handler"] == "celery.message" for item in all_of(server)))


def all_of(server: PolicyServer) -> list[dict[str, Any]]:
    return list(server.desk.letters.values())


def offer(server: PolicyServer, key: int, item: dict[str, Any]) -> None:
    members = {name: item[name] for name in ("idempotency_key", "headers", "body")}
    server.desk.offer(key, item["handler"], None, **members)
