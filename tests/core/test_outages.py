"""Which errors of the database are outages, and what each door then says."""

import json
import sqlite3

import psycopg
import pytest
from django.db import DataError, InterfaceError, InternalError, OperationalError, ProgrammingError
from django.http import HttpResponse
from django.test import RequestFactory
from psycopg import errors as postgresql

from apps.core import outages


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """The error as Django raises it: with the driver's as its cause."""
    error.__cause__ = cause
    return error


def of_sqlite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("from the library")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (raised(OperationalError(), psycopg.OperationalError("gone")), "database_unavailable"),
        (raised(InterfaceError(), psycopg.InterfaceError("closed")), "database_unavailable"),
        (raised(OperationalError(), postgresql.QueryCanceled()), "database_unavailable"),
        (raised(OperationalError(), postgresql.DiskFull()), "database_unwritable"),
        (raised(InternalError(), postgresql.ReadOnlySqlTransaction()), "database_unwritable"),
        (raised(InternalError(), postgresql.InFailedSqlTransaction()), ""),
        (raised(OperationalError(), of_sqlite(sqlite3.SQLITE_BUSY)), "database_unavailable"),
        (raised(OperationalError(), of_sqlite(sqlite3.SQLITE_CANTOPEN)), "database_unavailable"),
        (raised(OperationalError(), of_sqlite(sqlite3.SQLITE_FULL)), "database_unwritable"),
        (raised(OperationalError(), of_sqlite(sqlite3.SQLITE_IOERR_WRITE)), "database_unwritable"),
        (raised(OperationalError(), of_sqlite(sqlite3.SQLITE_READONLY)), "database_unwritable"),
        (raised(OperationalError(), of_sqlite(sqlite3.SQLITE_ERROR)), ""),
        (raised(DataError(), postgresql.NumericValueOutOfRange()), ""),
        (raised(ProgrammingError(), postgresql.UndefinedTable()), ""),
        (ValueError("a bug"), ""),
    ],
)
def test_an_outage_is_told_from_a_bug(error: Exception, code: str) -> None:
    assert outages.code_of(error) == code


def answer_to(path: str, error: Exception, method: str = "GET") -> HttpResponse | None:
    middleware = outages.DatabaseOutages(lambda request: HttpResponse())
    return middleware.process_exception(RequestFactory().generic(method, path), error)


GONE = raised(OperationalError("connection refused to 10.1.2.3"), psycopg.OperationalError())


def test_the_api_answers_a_problem_that_says_when_to_come_back() -> None:
    answer = answer_to("/api/v1/flags", GONE)

    assert answer is not None
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer["Content-Type"] == "application/problem+json"
    assert json.loads(answer.content)["code"] == "database_unavailable"
    assert b"10.1.2.3" not in answer.content


def test_people_get_a_page_that_looks_again_by_itself() -> None:
    answer = answer_to("/admin/", GONE)

    assert answer is not None
    assert answer.status_code == 503
    assert b'http-equiv="refresh"' in answer.content


def test_a_form_is_not_sent_again_by_itself() -> None:
    answer = answer_to("/admin/", GONE, "POST")

    assert answer is not None
    assert b'http-equiv="refresh"' not in answer.content


def test_a_bug_stays_a_server_error() -> None:
    assert answer_to("/api/v1/flags", ValueError()) is None


@pytest.mark.parametrize(
    ("path", "error", "status", "kind"),
    [
        ("/api/v1/flags", GONE, 503, "application/problem+json"),
        ("/api/v1/flags", ValueError(), 500, "application/problem+json"),
        ("/admin/", GONE, 503, "text/html; charset=utf-8"),
        ("/admin/", ValueError(), 500, "text/html; charset=utf-8"),
    ],
)
def test_what_a_middleware_raises_is_answered_too(
    path: str, error: Exception, status: int, kind: str
) -> None:
    try:
        raise error
    except Exception:  # noqa: BLE001  # as Django calls the handler: while it handles the error
        answer = outages.server_error(RequestFactory().get(path))

    assert (answer.status_code, answer["Content-Type"]) == (status, kind)
