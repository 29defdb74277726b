"""A token that this process knows already lets its bearer in without asking the database."""

import time

from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.core import clock
from apps.core.actor import Actor
from apps.core.errors import NotFound
from apps.delivery import state
from apps.delivery.answers import TRUSTED_FOR, key_of, token_in

SCOPE = "health:read"


class RememberedToken(BaseAuthentication):
    """`Authorization: Bearer hf_…`, from the snapshot that policies are served from.

    For reading health only: the actor does not know the number of its service. A token that the
    snapshot does not know, or that may not, is for the next class to refuse.
    """

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Actor] | None:
        known, token = state.followed(), token_in(request.headers.get("Authorization", ""))
        if known is None or (snapshot := known.snapshot) is None:
            return None
        if time.monotonic() - snapshot.reached_at > TRUSTED_FOR:
            return None
        key = key_of(token, snapshot, clock.now())
        if key is None or SCOPE not in key.scopes:
            return None
        place = snapshot.places.get(key.environment_id)
        named = request.query_params.getlist("environment")
        if place is None or named not in ([], [place.origin.environment]):
            raise NotFound(_("This token is another environment's."))
        known.note_use(key.selector)
        return AnonymousUser(), Actor(
            kind="token",
            id=str(key.token_id),
            label=_("a token"),
            environment_ids=frozenset({key.environment_id}),
            scopes=frozenset(key.scopes),
            source="api",
        )

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="holdfast"'
