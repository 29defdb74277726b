"""Refusals are recorded too: who tried what, and was not allowed to."""

import threading
import time
from collections import OrderedDict
from typing import Any

import structlog
from rest_framework.response import Response

from apps.audit import services
from apps.core import problems
from apps.core.actor import Actor
from apps.core.errors import Forbidden

log = structlog.get_logger(__name__)

# Entries of one actor, by this process. The log only grows, so nobody may fill it.
MOST_A_MINUTE = 60
_REMEMBERED = 10_000  # actors


class Bounds:
    """How many refusals of each actor were written down in the minute that runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()

    def take(self, actor: Actor, now: float) -> bool:
        """Whether one more may be written; `now` in seconds, by a clock that never goes back."""
        who, minute = (actor.kind, actor.id), int(now // 60)
        with self._lock:
            counted, count = self._counts.pop(who, (minute, 0))
            count = count + 1 if counted == minute else 1
            self._counts[who] = (minute, count)
            if len(self._counts) > _REMEMBERED:
                self._counts.popitem(last=False)
        return count <= MOST_A_MINUTE


bounds = Bounds()


def handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: the problem answer, and an audit entry for a 403."""
    if isinstance(error, Forbidden):  # only then: reading `auth` may itself raise the refusal
        actor = getattr(context["request"], "auth", None)
        if isinstance(actor, Actor):
            record(actor, f"{context['request'].method} {context['request'].path}", error.detail)
    return problems.handler(error, context)


def record(actor: Actor, action: str, detail: str) -> None:
    """Write the refusal to the actor's environment's chain, else the system's.

    Of an actor that is refused again and again the rest of a minute is only logged.
    """
    if not bounds.take(actor, time.monotonic()):
        log.warning("denial.not_audited", actor_kind=actor.kind, actor_id=actor.id)
        return
    environment_id = next(iter(actor.environment_ids)) if len(actor.environment_ids) == 1 else None
    services.record_denial(action, actor=actor, environment_id=environment_id, detail=detail)
