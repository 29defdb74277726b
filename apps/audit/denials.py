"""Refusals are recorded too: who tried what, and was not allowed to."""

from typing import Any

from rest_framework.response import Response

from apps.audit import services
from apps.core import problems
from apps.core.actor import Actor
from apps.core.errors import Forbidden


def handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: the problem answer, and an audit entry for a 403."""
    if isinstance(error, Forbidden):  # only then: reading `auth` may itself raise the refusal
        actor = getattr(context["request"], "auth", None)
        if isinstance(actor, Actor):
            record(actor, f"{context['request'].method} {context['request'].path}", error.detail)
    return problems.handler(error, context)


def record(actor: Actor, action: str, detail: str) -> None:
    """Write the refusal to the actor's environment's chain, else the system's."""
    environment_id = next(iter(actor.environment_ids)) if len(actor.environment_ids) == 1 else None
    services.record_denial(action, actor=actor, environment_id=environment_id, detail=detail)
