"""A Celery app whose tasks kill what runs them; real workers of it are processes of their own."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from celery import Celery

from holdfast import Holdfast
from holdfast.contrib.celery import connect
from sdk.tests.client.world import QUICK

app = Celery("killers", broker=os.environ["KILLERS_BROKER"], set_as_current=False)
app.conf.update(
    task_default_queue="killers",
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_lost_wait=0.1,  # seconds; how long a result may be under way when a child dies
    broker_transport_options=json.loads(os.environ["KILLERS_OPTIONS"]),
)
connect(Holdfast(timing=QUICK), app, deaths=int(os.environ["KILLERS_DEATHS"]))
runs = Path(os.environ["KILLERS_RUNS"])


def note(name: str) -> None:
    with runs.open("a") as file:
        file.write(name + "\n")


@app.task(name="killers.child", bind=True)
def kill_child(task: Any, order: str) -> None:
    """What the kernel does to a process that takes too much memory."""
    note(order)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="killers.worker")
def kill_worker(order: str) -> None:
    """The same to the whole worker: its children go with it."""
    note(order)
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


@app.task(name="killers.harmless")
def harmless(order: str) -> None:
    note(order)
