"""Which class an error belongs to."""

from __future__ import annotations

import abc
import socket
import ssl
import urllib.error
from email.message import Message
from typing import Any

import celery.exceptions
import httpx
import psycopg
import pytest
import redis

from holdfast import CircuitOpen
from holdfast._classify import classify, is_timeout, is_unsent
from holdfast.testing import LocalHoldfast

REQUEST = httpx.Request("GET", "http://localhost/")


def answered(status: int) -> httpx.HTTPStatusError:
    response = httpx.Response(status, request=REQUEST)
    return httpx.HTTPStatusError("bad", request=REQUEST, response=response)


def by_url(status: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://localhost/", status, "bad", Message(), None)


def foreign(module: str, name: str, base: type[Exception] = Exception, **members: Any) -> Exception:
    """An exception as a package that is not installed here would raise it."""
    error: Exception = type(name, (base,), {"__module__": module, **members})()
    return error


UNUSABLE = foreign("requests.exceptions", "RequestException", OSError)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "klass"),
    [
        (ConnectionResetError(), "transient"),
        (TimeoutError(), "transient"),
        (socket.gaierror(), "transient"),
        (OSError(5, "input/output error"), "transient"),
        (FileNotFoundError(), "permanent"),
        (PermissionError(), "permanent"),
        (ssl.SSLCertVerificationError(), "permanent"),
        (MemoryError(), "critical"),
        (ValueError(), "unknown"),
        (RuntimeError(), "unknown"),
        (StopIteration(), "ignored"),
        (CircuitOpen("inner"), "rejected"),
        (httpx.ConnectError("x"), "transient"),
        (httpx.ReadTimeout("x"), "transient"),
        (httpx.UnsupportedProtocol("x"), "permanent"),
        (answered(503), "transient"),
        (answered(429), "transient"),
        (answered(500), "transient"),
        (answered(404), "permanent"),
        (answered(501), "permanent"),
        (by_url(502), "transient"),
        (by_url(403), "permanent"),
        (redis.exceptions.ConnectionError(), "transient"),
        (redis.exceptions.TimeoutError(), "transient"),
        (redis.exceptions.AuthenticationError(), "critical"),
        (redis.exceptions.ResponseError(), "permanent"),
        (psycopg.OperationalError(), "transient"),
        (psycopg.errors.DeadlockDetected(), "transient"),
        (psycopg.errors.UniqueViolation(), "permanent"),
        (psycopg.errors.ReadOnlySqlTransaction(), "transient"),
        (psycopg.errors.InvalidPassword(), "critical"),
        (psycopg.ProgrammingError(), "permanent"),
        (foreign("requests.exceptions", "ConnectionError", OSError), "transient"),
        (foreign("requests.exceptions", "InvalidURL", type(UNUSABLE)), "permanent"),
        (
            foreign("django.db.utils", "OperationalError"),
            "transient",
        ),
        (
            caused(
                foreign("django.db.utils", "DatabaseError"), psycopg.errors.SerializationFailure()
            ),
            "transient",
        ),
        (foreign("psycopg2", "OperationalError", pgcode="57P01"), "transient"),
        (foreign("aiohttp.client_exceptions", "ClientResponseError", status=503), "transient"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value)[:40],
)
def test_known_errors(error: Exception, klass: str) -> None:
    assert classify(error) == klass


class TestGroups:
    @pytest.mark.parametrize(
        ("leaves", "klass"),
        [
            ([ConnectionError(), TimeoutError()], "transient"),
            ([ConnectionError(), PermissionError()], "permanent"),
            ([ConnectionError(), ValueError()], "unknown"),
            ([PermissionError(), MemoryError()], "critical"),
            ([ExceptionGroup("deeper", [ConnectionError()])], "transient"),
        ],
    )
    def test_the_worst_leaf_decides(self, leaves: list[Exception], klass: str) -> None:
        assert classify(ExceptionGroup("group", leaves)) == klass


class Excluded(abc.ABC):  # noqa: B024 - virtual: only its metaclass matters
    """Virtual base of an exception."""


class Virtual(Exception):
    """Registered below."""


Excluded.register(Virtual)


class TestOwnRules:
    def test_they_come_before_ours(self) -> None:
        assert classify(ConnectionError(), ((ConnectionError, "permanent"),)) == "permanent"

    def test_a_virtual_base_class_is_a_class_too(self) -> None:
        rules: Any = ((Excluded, "ignored"),)

        assert classify(Virtual(), rules) == "ignored"

    def test_predicates_see_the_error(self) -> None:
        rules: Any = ((lambda error: "quota" in str(error), "permanent"),)

        assert classify(ValueError("quota used up"), rules) == "permanent"
        assert classify(ValueError("else"), rules) == "unknown"

    def test_a_predicate_that_raises_hides_nothing(self) -> None:
        rules: Any = ((lambda error: 1 / 0, "permanent"),)

        assert classify(ConnectionError(), rules) == "unknown"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), True),
        (httpx.ReadTimeout("x"), True),
        (redis.exceptions.TimeoutError(), True),
        (foreign("requests.exceptions", "ReadTimeout"), True),
        (ConnectionError(), False),
    ],
)
def test_timeouts_are_told_by_name(error: Exception, expected: bool) -> None:
    assert is_timeout(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (socket.gaierror(), True),
        (httpx.ConnectTimeout("x"), True),
        (httpx.PoolTimeout("x"), True),
        (answered(429), True),
        (httpx.ReadTimeout("x"), False),
        (ConnectionResetError(), False),
        (answered(503), False),
    ],
)
def test_only_what_proves_that_nothing_was_sent_is_unsent(error: Exception, expected: bool) -> None:
    assert is_unsent(error) is expected


class TestCelery:
    @pytest.mark.parametrize(
        "error",
        [
            celery.exceptions.Retry(),
            celery.exceptions.Ignore(),
            celery.exceptions.Reject(),
            celery.exceptions.SoftTimeLimitExceeded(),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_ends_the_task_is_no_failure_of_a_dependency(self, error: Exception) -> None:
        assert classify(error) == "ignored"

    def test_a_result_that_did_not_come_may_come_later(self) -> None:
        assert classify(celery.exceptions.TimeoutError()) == "transient"


class Busy(Exception):
    pass


class TestRegistered:
    def test_a_rule_of_the_service_holds_for_calls_without_a_decorator(self) -> None:
        hf = LocalHoldfast()
        hf.register_errors({"permanent": Busy})

        outcome = hf.try_call("shop", fail, Busy())

        assert (outcome.attempts, hf.dependency("shop").stats()["permanent"]) == (1, 1)

    def test_a_rule_for_one_dependency_beats_the_one_for_all_and_no_other_knows_it(self) -> None:
        hf = LocalHoldfast()
        hf.register_errors({"permanent": Busy})
        hf.register_errors({"transient": lambda error: isinstance(error, Busy)}, "shop")

        assert hf.try_call("shop", fail, Busy()).attempts == 3
        assert hf.try_call("bank", fail, Busy()).attempts == 1

    def test_a_guards_own_word_is_asked_first(self) -> None:
        hf = LocalHoldfast()
        hf.register_errors({"transient": Busy}, "shop")

        guarded = hf.guard("shop", errors={"permanent": Busy})(fail)

        with pytest.raises(Busy):
            guarded(Busy())
        assert hf.dependency("shop").stats()["calls"] == 1

    def test_an_error_class_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no error class 'fatal'"):
            LocalHoldfast().register_errors({"fatal": Busy})


def fail(error: Exception) -> None:
    raise error
