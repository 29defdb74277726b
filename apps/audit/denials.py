"""Refusals of the API are recorded too: who tried what, and was not allowed to."""

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
            action = f"{context['request'].method} {context['request'].path}"
            environment_id = _environment_of_row(context["view"], actor)
            services.note_denial(actor, action, error.detail, environment_id=environment_id)
    return problems.handler(error, context)


def _environment_of_row(view: Any, actor: Actor) -> int | None:
    """Where the row is that the view is about, of an actor who sees several environments."""
    representation = getattr(view, "representation", None)
    keys = [key for name, key in view.kwargs.items() if name.endswith("_id")]
    if len(actor.environment_ids) < 2 or representation is None or len(keys) != 1:
        return None
    rows: Any = representation.Meta.model._default_manager
    row = rows.visible_to(actor).filter(pk=keys[0]).first()
    return getattr(row, "audited_in", None) or getattr(row, "environment_id", None)
