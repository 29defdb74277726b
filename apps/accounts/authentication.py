"""How DRF learns who asks: a bearer token, else the browser's session."""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from apps.accounts import selectors, services
from apps.accounts.models import User
from apps.core.actor import Actor
from apps.core.errors import NotFound, RuleBroken
from apps.fleet.models import SLUG, Environment


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer hf_…`."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Actor] | None:
        scheme, _space, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = selectors.find_token(text.strip())
        if token is None:
            raise AuthenticationFailed(_("The token is unknown, expired or revoked."))
        if _named_environment(request) not in (None, token.environment.slug):
            raise NotFound(_("This token is another environment's."))
        services.note_use(token)
        return AnonymousUser(), selectors.actor_of_token(token, request=request._request)

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="holdfast"'


class SessionActorAuthentication(SessionAuthentication):
    """The logged-in person, in the environment that `?environment=<slug>` names."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        user = found[0]
        if not isinstance(user, User):
            return None
        environment_id = self._environment_id(_named_environment(request))
        actor = selectors.actor_of_user(
            user,
            source="ui",
            environment_id=environment_id,
            **selectors.provenance(request._request),
        )
        return user, actor

    @staticmethod
    def _environment_id(slug: str | None) -> int | None:
        if slug is None:
            return None
        environment = None
        if SLUG.fullmatch(slug):
            rows = Environment.objects.filter(slug=slug)
            environment = rows.values_list("pk", flat=True).first()
        if environment is None:
            raise NotFound(_("There is no such environment among yours."))
        return environment


def _named_environment(request: Request) -> str | None:
    """What `?environment=` says; None for nothing, RuleBroken for more than one thing."""
    named = request.query_params.getlist("environment")
    if len(named) > 1:
        raise RuleBroken(_("Name one environment."), code="environment_required")
    return named[0] if named else None


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # untyped library
    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "A Holdfast API token."}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # untyped library
    target_class = SessionActorAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
