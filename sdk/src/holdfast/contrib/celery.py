"""Celery: tasks that failed for good become dead letters, and a redrive sends them again.

app = Celery("shop", broker=…)
hf = Holdfast()
connect(hf, app)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery, signals
from celery.exceptions import (
    NotRegistered,
    Reject,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    WorkerLostError,
)

from holdfast import Holdfast, Letter
from holdfast.contrib._deaths import Deaths, WorkerDied

__all__ = ["KEY", "WorkerDied", "connect"]

KEY = "idempotency_key"  # header of a message; its id if it has none
_REDRIVEN = "holdfast-redriven"  # how often a redrive has sent it again
_QUEUE = "celery-queue"
_REASONS = (
    ((WorkerLostError, WorkerDied), "worker_lost"),
    ((TimeLimitExceeded, SoftTimeLimitExceeded), "timeout"),
    (Reject, "rejected"),
)


def connect(hf: Holdfast, app: Celery, *, deaths: int = 3) -> None:
    """Capture this app's tasks that fail for good, and send them again when they are redriven.

    Call it once, where the app is made. A task that is retried is no failure; one that used up
    its retries is. Letters are handled by the task's name. The worker's main process claims them;
    sending the task again resolves the letter, and if that fails too, it is another letter with the
    same idempotency key: the header `idempotency_key` of the message, else the task's id.

    Args:
        deaths: A task with `acks_late` that was running when its worker died comes again. After so
            many deaths it is not run once more: it fails with `WorkerDied`, and is a letter. 0 lets
            it come again for ever.
    """
    bridge = _Bridge(hf, app)
    if deaths > 0:
        bridge.watch_deaths(deaths)
    signals.task_failure.connect(bridge.task_failed, weak=False)
    signals.task_rejected.connect(bridge.message_rejected, weak=False)
    signals.task_unknown.connect(bridge.task_unknown, weak=False)
    signals.worker_ready.connect(bridge.worker_ready, weak=False)
    signals.worker_process_init.connect(bridge.process_began, weak=False)
    signals.worker_shutdown.connect(bridge.worker_ended, weak=False)


class _Bridge:
    def __init__(self, hf: Holdfast, app: Celery) -> None:
        self._hf = hf
        self._app = app
        self._deaths: Deaths | None = None

    def watch_deaths(self, most: int) -> None:
        """Count the deaths of workers from now on."""
        cache_dir = self._hf._session.settings.cache_dir
        folder = None if cache_dir is None else cache_dir / "celery-started"
        self._deaths = Deaths(self._app, folder, most)
        # Tasks there are when it is finalised, in a child that was spawned too; then later ones.
        self._app.on_after_finalize.connect(self._deaths.protect, weak=False)
        signals.worker_init.connect(self._deaths.protect, weak=False)

    def task_failed(
        self,
        sender: Any = None,
        task_id: str = "",
        exception: BaseException | None = None,
        args: Any = None,
        kwargs: Any = None,
        **_: Any,
    ) -> None:
        if sender is None or sender.app is not self._app:
            return
        if self._deaths is not None and sender.acks_late:
            self._deaths.forget(task_id)  # its child may have died, and this be told by the parent
        request = sender.request
        headers = _custom_headers(request)
        queue = (getattr(request, "delivery_info", None) or {}).get("routing_key")
        self._capture(
            sender.name,
            task_id,
            {"args": list(args or ()), "kwargs": dict(kwargs or {})},
            headers,
            reason=_reason_of(exception),
            error=exception,
            attempts=(getattr(request, "retries", None) or 0) + 1,
            correlation_id=getattr(request, "root_id", None) or task_id,
            queue=queue,
        )

    def task_unknown(
        self,
        message: Any = None,
        exc: BaseException | None = None,
        name: str = "",
        id: str = "",
        **_: Any,
    ) -> None:
        """A message for a task this worker does not have: it can be sent again once one does."""
        try:
            args, kwargs = message.payload[:2]
        except Exception as problem:  # noqa: BLE001 - a message of anybody's making
            self.message_rejected(message=message, exc=problem)
            return
        self._capture(
            name,
            id,
            {"args": list(args), "kwargs": dict(kwargs)},
            message.headers or {},
            reason="rejected",
            error=exc if exc is not None else NotRegistered(name),
            queue=(message.delivery_info or {}).get("routing_key"),
        )

    def message_rejected(
        self, message: Any = None, exc: BaseException | None = None, **_: Any
    ) -> None:
        """A message that is no task, or none that can be read; kept as it came."""
        headers = message.headers or {}
        self._hf.dead_letter(
            str(headers.get("task") or "celery.message")[:200],
            bytes(message.body, "utf-8") if isinstance(message.body, str) else message.body,
            content_type="application/octet-stream",
            reason="deserialization",
            error=exc,
            idempotency_key=headers.get("id"),
            correlation_id=headers.get("root_id"),
            headers={"celery-content-type": str(message.content_type)},
        )

    def worker_ready(self, **_: Any) -> None:
        """Claim letters for the app's own tasks, in the main process only."""
        for name in self._app.tasks:
            if not name.startswith("celery."):
                self._hf.redrives(name)(self.send_again)
        if self._deaths is not None:
            self._deaths.clean()
        self._hf.start()

    def process_began(self, **_: Any) -> None:
        """A child of the pool runs tasks; claiming is its parent's."""
        self._hf._session.handlers.forget()

    def worker_ended(self, **_: Any) -> None:
        self._hf.close()

    def send_again(self, letter: Letter) -> None:
        """Hand the task to the broker again, under its own id and with the same key.

        Raises:
            ValueError: the letter does not hold a task's arguments.
        """
        body = letter.body
        if not isinstance(body, Mapping) or not isinstance(body.get("args"), list):
            raise ValueError("the letter does not hold a task that could be sent again")
        number = int(letter.headers.get(_REDRIVEN, "0")) + 1
        self._app.send_task(
            letter.handler,
            args=body["args"],
            kwargs=body.get("kwargs") or {},
            task_id=str(body["id"]),
            queue=letter.headers.get(_QUEUE),
            headers={KEY: letter.idempotency_key, _REDRIVEN: number},
        )

    def _capture(
        self,
        name: str,
        task_id: str,
        body: dict[str, Any],
        headers: Mapping[str, Any],
        *,
        queue: str | None,
        **members: Any,
    ) -> None:
        number = int(headers.get(_REDRIVEN) or 0)
        key = str(headers.get(KEY) or task_id)
        kept = {_REDRIVEN: number, _QUEUE: queue} if queue else {_REDRIVEN: number}
        self._hf.dead_letter(
            name,
            {"task": name, "id": task_id, **body},
            # Each redrive's failure is a letter of its own: it may be told before the redrive is.
            dedup_key=f"{task_id}/{number}",
            idempotency_key=key,
            headers=kept,
            **members,
        )


def _custom_headers(request: Any) -> Mapping[str, Any]:
    """What the sender put into the message beside Celery's own."""
    headers = getattr(request, "headers", None) or {}
    own = {name: getattr(request, name, None) for name in (KEY, _REDRIVEN)}
    return {**{name: value for name, value in own.items() if value is not None}, **headers}


def _reason_of(error: BaseException | None) -> str:
    for kinds, reason in _REASONS:
        if isinstance(error, kinds):
            return reason
    return "retries_exhausted"
