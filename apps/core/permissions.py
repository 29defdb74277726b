"""Who may come through an API door. The view names a scope; that is the only place."""

from typing import Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.core.actor import Actor
from apps.core.errors import Forbidden


class Refuse(BasePermission):
    """The default: a view that names no scope lets nobody in."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return False


def requires(scope: str, *, write: str = "") -> type[BasePermission]:
    """A permission class: the actor has `scope`, or `write` where the method changes something."""

    class Requires(BasePermission):
        required = {"read": scope, "write": write or scope}

        def has_permission(self, request: Request, view: Any) -> bool:
            actor = actor_of(request)
            needed = scope if request.method in {"GET", "HEAD", "OPTIONS"} else write or scope
            if not actor.may(needed):
                raise Forbidden(
                    _("This needs the scope %(scope)s, which %(actor)s does not have here.")
                    % {"scope": needed, "actor": actor.label},
                    code="scope_missing",
                )
            return True

    return Requires


def actor_of(request: Request) -> Actor:
    """The actor that authentication found; raises NotAuthenticated without one."""
    if not isinstance(request.auth, Actor):
        raise NotAuthenticated
    return request.auth
