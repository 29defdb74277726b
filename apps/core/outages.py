"""The database does not answer, or does not write: every door says so, and when to come back."""

import sqlite3
import sys
from collections.abc import Callable

import structlog
from django.db import Error, InterfaceError, InternalError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from apps.core import problems

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 5
UNAVAILABLE = "database_unavailable"
UNWRITABLE = "database_unwritable"
_SQLITE_UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
_POSTGRESQL_UNWRITABLE = ("53100", "25006")  # disk full; a standby, or made read-only


def code_of(error: BaseException | None) -> str:
    """`database_unavailable`, `database_unwritable`, or nothing for any other error.

    A statement that is wrong (no such table, a value out of range) is a bug and no outage.
    """
    if not isinstance(error, Error):
        return ""
    if getattr(error.__cause__, "sqlstate", None) in _POSTGRESQL_UNWRITABLE:
        return UNWRITABLE
    if isinstance(error, InternalError) or not isinstance(error, OperationalError | InterfaceError):
        return ""
    sqlite_code = getattr(error.__cause__, "sqlite_errorcode", None)
    if sqlite_code is None:
        return UNAVAILABLE
    if sqlite_code & 0xFF in _SQLITE_UNWRITABLE:
        return UNWRITABLE
    return "" if sqlite_code == sqlite3.SQLITE_ERROR else UNAVAILABLE


def detail_of(code: str) -> str:
    """What people are told. A connection lost during COMMIT leaves open whether it happened."""
    what = (
        _("The database cannot write: its disk is full or fails, or it is read-only.")
        if code == UNWRITABLE
        else _("The database does not answer.")
    )
    return (
        what
        + " "
        + _(
            "Services keep their policies. If this was a change, look whether it took effect "
            "before you try again."
        )
    )


class DatabaseOutages:
    """A plain page instead of a server error while the database is away."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        code = code_of(exception)
        return unavailable(request, code, exception) if code else None


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler of errors nobody handled, those of middlewares included."""
    error = sys.exc_info()[1]
    if code := code_of(error):
        return unavailable(request, code, error)
    if is_api(request):
        return problems.page(
            500, "server_error", _("The server made a mistake; its log says more.")
        )
    return HttpResponse(render_to_string("core/server_error.html"), status=500)


def unavailable(request: HttpRequest, code: str, error: BaseException | None) -> HttpResponse:
    """503 with Retry-After: a problem for the API, a page for people."""
    note(code, error, path=request.path)
    detail = detail_of(code)
    if is_api(request):
        response: HttpResponse = problems.page(503, code, detail)
    else:
        page = {
            "detail": detail,
            "reload_seconds": RETRY_AFTER_SECONDS if request.method == "GET" else None,
        }
        response = HttpResponse(render_to_string("core/unavailable.html", page), status=503)
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    response.headers["Cache-Control"] = "no-store"
    return response


def note(code: str, error: BaseException | None, *, path: str) -> None:
    """One line without a traceback: there may be thousands of these."""
    cause = error.__cause__ if error is not None and error.__cause__ is not None else error
    log.error(code.replace("_", ".", 1), path=path, error=str(cause), kind=type(cause).__name__)


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")
