"""The document over HTTP, and whether this process lives and is ready."""

import time
from typing import Any

from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core import clock
from apps.delivery import state
from apps.delivery.answers import LONGEST_WAIT, Asked, answer, log_denial, token_in
from apps.delivery.state import State


class WhateverTheyAccept(BaseContentNegotiation):
    """There is one representation, whatever the Accept header says."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return None

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = renderers[0]
        return renderer, renderer.media_type


class PolicyView(APIView):
    """GET, HEAD /api/v1/policies/{service} → 200 the document, 304; 401, 403, 404, 503."""

    authentication_classes = []  # `answer` checks the token, without a query
    permission_classes = [AllowAny]
    content_negotiation_class = WhateverTheyAccept
    http_method_names = ["get", "head"]

    @extend_schema(
        operation_id="policies_retrieve",
        parameters=[
            OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER),
            OpenApiParameter("service", str, OpenApiParameter.PATH),
            OpenApiParameter(
                "wait",
                {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT},
                description="With If-None-Match: seconds to wait for a newer document.",
            ),
        ],
        responses={
            200: OpenApiResponse({"type": "object"}, "The document of the service."),
            304: OpenApiResponse(None, "The client has it already."),
            503: OpenApiResponse(None, "Starting; try again after Retry-After seconds."),
        },
        auth=[{"token": []}],  # type: ignore[list-item]  # OpenAPI wants what the stubs forbid
    )
    def get(self, request: Request, service: str) -> HttpResponse:
        """What a service must do: its policies and flags, or 304."""
        return respond(request._request, service, state.current())

    @extend_schema(exclude=True)
    def head(self, request: Request, service: str) -> HttpResponse:
        return respond(request._request, service, state.current())


def respond(request: HttpRequest, service: str, known: State) -> HttpResponse:
    """The answer as Django sends it."""
    asked = asked_by(request, service)
    snapshot = known.for_bearer(asked.token)
    status, headers, body = answer(asked, snapshot)
    log_denial(asked, status)
    if status < 400:
        known.note_use(asked.token[0] if asked.token else "")
    response = HttpResponse(body, status=status, headers=headers)
    if "Content-Type" not in headers:
        del response["Content-Type"]  # Django's guess, of a 304 without a body
    return response


def asked_by(request: HttpRequest, service: str) -> Asked:
    """What of Django's request decides the answer."""
    return Asked(
        method=request.method or "",
        service=service,
        now=clock.now(),
        monotonic=time.monotonic(),
        token=token_in(request.headers.get("Authorization", "")),
        if_none_match=request.headers.get("If-None-Match", ""),
        accept_encoding=request.headers.get("Accept-Encoding", ""),
        environment=request.GET.get("environment", ""),
        wait=request.GET.get("wait", ""),
    )


class HealthJSON(JSONRenderer):
    """draft-inadarei-api-health-check."""

    media_type = "application/health+json"


def health(*states: str) -> OpenApiResponse:
    schema = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "enum": list(states)}},
    }
    return OpenApiResponse(schema, "How this process is.")


class LiveView(APIView):
    """GET /api/v1/health/live → 200: this process answers. Open to everybody."""

    authentication_classes = []
    permission_classes = [AllowAny]
    renderer_classes = [HealthJSON]
    content_negotiation_class = WhateverTheyAccept

    @extend_schema(operation_id="health_live", responses={200: health("pass")}, auth=[])
    def get(self, request: Request) -> Response:
        """Whether this process answers. Open to everybody."""
        return Response({"status": "pass"})


class ReadyView(LiveView):
    """GET /api/v1/health/ready → 200, 503: it has policies to serve and is not stopping. Open."""

    @extend_schema(
        operation_id="health_ready", responses={200: health("pass"), 503: health("fail")}, auth=[]
    )
    def get(self, request: Request) -> Response:
        """Whether it has policies to serve and is not stopping. Open to everybody."""
        is_ready = state.current().is_ready
        return Response({"status": "pass" if is_ready else "fail"}, 200 if is_ready else 503)
