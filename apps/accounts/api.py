"""API tokens over HTTP."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts import services
from apps.accounts.models import ApiToken
from apps.core import clock
from apps.core.actor import SCOPES
from apps.core.api import Strict, query, respond, valid
from apps.core.db import get_visible
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import PAGE
from apps.fleet.selectors import named_service


class TokenOut(serializers.ModelSerializer[ApiToken]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True, allow_null=True)
    scopes = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = ApiToken
        fields: tuple[str, ...] = (
            *("id", "name", "selector", "environment", "service", "scopes", "created_by"),
            *("created_at", "expires_at", "revoked_at", "last_used_at", "version"),
        )
        read_only_fields = fields


class NewTokenOut(TokenOut):
    token = serializers.CharField(read_only=True, help_text="The key itself: shown only now.")

    class Meta(TokenOut.Meta):
        fields = (*TokenOut.Meta.fields, "token")
        read_only_fields = fields


class TokenIn(Strict):
    name = serializers.CharField(max_length=120)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(sorted(SCOPES)), min_length=1, max_length=len(SCOPES)
    )
    service = serializers.CharField(max_length=80, allow_null=True, default=None)
    expires_at = serializers.DateTimeField(
        allow_null=True, default=None, help_text="null: until revoked."
    )


class RevokeIn(Strict):
    reason = serializers.CharField(max_length=500)


class TokenQuery(Strict):
    live = serializers.BooleanField(required=False, help_text="Neither revoked nor expired.")


class TokensView(APIView):
    """GET and POST /api/v1/tokens → 200 page, 201 token with its text; 400, 403."""

    permission_classes = [requires("tokens:write")]

    @extend_schema(parameters=[TokenQuery, *PAGE], responses=listed(TokenOut))
    def get(self, request: Request) -> Response:
        """The tokens of the environment, without their secrets."""
        wanted = query(TokenQuery, request)
        rows = ApiToken.objects.visible_to(actor_of(request))
        if "live" in wanted:
            live = ApiToken.objects.live(clock.now()).values("pk")
            rows = rows.filter(pk__in=live) if wanted["live"] else rows.exclude(pk__in=live)
        return page_of(rows.select_related("environment", "service"), TokenOut, request, self)

    @extend_schema(request=TokenIn, responses={201: NewTokenOut})
    def post(self, request: Request) -> Response:
        """Make a token. Its text is in this answer and nowhere else."""
        body = valid(TokenIn, request.data)
        actor = actor_of(request)
        token, text = services.create_token(
            body["name"],
            scopes=body["scopes"],
            service=named_service(body["service"], actor=actor),
            expires_at=body["expires_at"],
            actor=actor,
        )
        answer = Response({**TokenOut(token).data, "token": text}, 201)
        answer["Location"] = f"/api/v1/tokens/{token.pk}"
        answer["ETag"] = f'"{token.version}"'
        answer["Cache-Control"] = "no-store"
        return answer


class TokenView(APIView):
    """GET /api/v1/tokens/{id} → 200; 403, 404."""

    permission_classes = [requires("tokens:write")]
    representation = TokenOut

    @extend_schema(responses=TokenOut)
    def get(self, request: Request, token_id: int) -> Response:
        """One token, without its secret."""
        token = get_visible(ApiToken.objects, actor=actor_of(request), pk=token_id)
        return respond(TokenOut(token), version=token.version)


class TokenEndView(APIView):
    """POST /api/v1/tokens/{id}/end → 200 token; 400, 403, 404, 409 already revoked."""

    permission_classes = [requires("tokens:write")]
    representation = TokenOut

    @extend_schema(request=RevokeIn, responses=TokenOut)
    def post(self, request: Request, token_id: int) -> Response:
        """End it: every process refuses it within two seconds and cuts its streams."""
        body = valid(RevokeIn, request.data)
        token = services.revoke_token(
            token_id, version=None, reason=body["reason"], actor=actor_of(request)
        )
        return respond(TokenOut(token), version=token.version)
