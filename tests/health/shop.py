"""An application that is not Holdfast's and has a canary of its own; `SHOP_BROKER` is its broker.

Its worker as a process: `python -m celery --app tests.health.shop worker`.
"""

import os
from typing import Any

from celery import Celery

from apps.health import canary

TASK = "shop.canary"


def shop(broker: str) -> Celery:
    found = Celery("shop", broker=broker, set_as_current=False)
    found.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)

    @found.task(name=TASK, bind=True, ignore_result=True, shared=False)
    def answer(self: Any, reply_to: str) -> None:
        with found.connection_for_write() as connection:
            canary.reply(connection, task_id=self.request.id, reply_to=reply_to)

    return found


app = shop(os.environ.get("SHOP_BROKER", "memory://"))
