"""Every refusal of the API as RFC 9457 `application/problem+json`."""

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.response import Response

from apps.core.errors import DomainError, Stale

CONTENT_TYPE = "application/problem+json"


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
    else:
        return None
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
        errors = flatten(error.detail)
        detail = _("Some values are missing or not allowed; `errors` says which and why.")
        return document(error.status_code, "invalid", detail, errors=errors), headers
    codes = error.get_codes()
    code = codes if isinstance(codes, str) else "error"
    return document(error.status_code, code, str(error.detail)), headers


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
