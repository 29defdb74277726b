"""Every refusal of the API as RFC 9457 `application/problem+json`."""

from http import HTTPStatus
from itertools import islice
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.defaults import bad_request as bad_request_page
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from apps.core.errors import DomainError, Stale, TooLarge

CONTENT_TYPE = "application/problem+json"
MOST_ERRORS = 50  # of one answer, which must not outgrow its request


def document(
    status: int,
    code: str,
    detail: str,
    *,
    title: str = "",
    errors: dict[str, list[str]] | None = None,
) -> dict[str, Any]:
    """The problem document: type, title, status, detail, code and, per field, errors."""
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if errors:
        problem["errors"] = errors
    return problem


def handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler; None for what is a bug and must stay a logged 500."""
    headers: dict[str, str] = {}
    if isinstance(error, DomainError):
        problem = document(
            error.status, error.code, error.detail, title=str(error.title), errors=error.errors
        )
        if isinstance(error, Stale) and error.row is not None:
            problem["current"] = _current(error.row, context)
    elif isinstance(error, Http404):
        problem = document(404, "not_found", _("There is no such thing in this environment."))
    elif isinstance(error, PermissionDenied):
        problem = document(403, "forbidden", _("You may not do this."))
    elif isinstance(error, exceptions.APIException):
        problem, headers = _of_rest_framework(error)
    elif isinstance(error, SuspiciousOperation):
        problem = _of_suspicion(error)
    else:
        return None
    if request := context.get("request"):  # whatever the route answers with when all is well
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), CONTENT_TYPE
    return Response(problem, problem["status"], headers=headers, content_type=CONTENT_TYPE)


def _current(row: Any, context: dict[str, Any]) -> Any:
    representation = getattr(context["view"], "representation", None)
    return None if representation is None else representation(row).data


def _of_rest_framework(error: exceptions.APIException) -> tuple[dict[str, Any], dict[str, str]]:
    headers = {}
    if auth := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = f"{wait:.0f}"
    if isinstance(error, exceptions.ValidationError):
        errors = dict(islice(flatten(error.detail).items(), MOST_ERRORS))
        detail = _("Some values are missing or not allowed; `errors` says which and why.")
        return document(error.status_code, "invalid", detail, errors=errors), headers
    codes = error.get_codes()
    code = codes if isinstance(codes, str) else "error"
    return document(error.status_code, code, str(error.detail)), headers


def _of_suspicion(error: SuspiciousOperation) -> dict[str, Any]:
    if isinstance(error, RequestDataTooBig):
        return document(413, TooLarge.code, _("The body is over the limit."))
    return document(400, "malformed", _("The request is malformed."))


def flatten(detail: Any, path: str = "") -> dict[str, list[str]]:
    """DRF's nested error details as `{"dotted.path": [texts]}`."""
    if isinstance(detail, dict):
        found: dict[str, list[str]] = {}
        for name, inner in detail.items():
            found |= flatten(inner, f"{path}.{name}" if path else str(name))
        return found
    if isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        return flatten(dict(enumerate(detail)), path)
    texts = detail if isinstance(detail, list) else [detail]
    return {path or "body": [str(text) for text in texts]} if texts else {}


def page(status: int, code: str, detail: str) -> JsonResponse:
    """A problem for Django's own error handlers (no view, no DRF)."""
    return JsonResponse(document(status, code, detail), status=status, content_type=CONTENT_TYPE)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Django's handler of addresses that lead nowhere: a problem, or a page for people."""
    if request.path.startswith("/api/"):
        return page(404, "not_found", _("There is nothing at this address."))
    return render(request, "404.html", status=404)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of requests it cannot trust (host, form, size): the same two ways."""
    if request.path.startswith("/api/") and isinstance(exception, SuspiciousOperation):
        problem = _of_suspicion(exception)
        return page(problem["status"], problem["code"], problem["detail"])
    return bad_request_page(request, exception)
