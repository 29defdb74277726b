"""Which class an error belongs to: transient, permanent, critical or unknown.

Clients' exceptions are known by module and name, so that none of those packages is imported.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal

from holdfast.errors import Misused, Rejected

ErrorClass = Literal["transient", "permanent", "critical", "unknown", "ignored", "rejected"]
"""Beside the four of the policies: `ignored` by a rule of the service, and `rejected` by a
guard further in, which says nothing about this dependency."""

Matcher = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool]
Rules = tuple[tuple[Matcher, ErrorClass], ...]

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRANSIENT_STATES = ("08", "40", "53", "57P", "57014", "55P03", "25006")
_CRITICAL_STATES = ("28", "3D", "58", "XX")
_KNOWN: Mapping[str, ErrorClass | Literal["status", "state", "origin"]] = {
    "httpx.HTTPStatusError": "status",
    "httpx.LocalProtocolError": "permanent",
    "httpx.UnsupportedProtocol": "permanent",
    "httpx.TransportError": "transient",
    "httpx.HTTPError": "unknown",
    "requests.HTTPError": "status",
    "requests.SSLError": "permanent",
    "requests.ConnectionError": "transient",
    "requests.Timeout": "transient",
    "requests.ChunkedEncodingError": "transient",
    "requests.RequestException": "permanent",  # an unusable URL and the like
    "urllib.HTTPError": "status",
    "aiohttp.ClientResponseError": "status",
    "aiohttp.ClientConnectionError": "transient",
    "psycopg.OperationalError": "state",
    "psycopg.InterfaceError": "state",
    "psycopg.Error": "state",
    "psycopg2.OperationalError": "state",
    "psycopg2.InterfaceError": "state",
    "psycopg2.Error": "state",
    "asyncpg.PostgresError": "state",
    "django.OperationalError": "origin",
    "django.DatabaseError": "origin",
    "sqlalchemy.DBAPIError": "origin",
    "redis.AuthenticationError": "critical",
    "redis.AuthorizationError": "critical",
    "redis.BusyLoadingError": "transient",
    "redis.TryAgainError": "transient",
    "redis.ClusterDownError": "transient",
    "redis.ReadOnlyError": "transient",
    "redis.ConnectionError": "transient",
    "redis.TimeoutError": "transient",
    "redis.RedisError": "permanent",
    "kombu.OperationalError": "transient",
    "celery.TaskPredicate": "ignored",  # these end the task that makes the call
    "billiard.SoftTimeLimitExceeded": "ignored",
    "billiard.TimeLimitExceeded": "ignored",
    "celery.BackendError": "transient",
    "celery.TimeoutError": "transient",
    "django.ObjectDoesNotExist": "permanent",
    "pika.AMQPConnectionError": "transient",
    "amqp.RecoverableConnectionError": "transient",
    "amqp.RecoverableChannelError": "transient",
}
_PERMANENT_OS = (
    ssl.SSLCertVerificationError,
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)
_UNSENT = frozenset(
    {
        "httpx.ConnectError",
        "httpx.ConnectTimeout",
        "httpx.PoolTimeout",
        "requests.ConnectTimeout",
        "aiohttp.ClientConnectorError",
    }
)


def classify(error: Exception, rules: Rules = ()) -> ErrorClass:
    """Class of an error; the service's own rules come first, in their order.

    A rule that itself raises makes the error `unknown`: it must not hide what happened.
    """
    for matcher, klass in rules:
        try:
            matched = _matches(matcher, error)
        except Exception:  # noqa: BLE001 - a service's own predicate may raise anything
            return "unknown"
        if matched:
            return klass
    if isinstance(error, ExceptionGroup):
        return _class_of_group(error, rules)
    return _class_of(error)


def is_timeout(error: Exception) -> bool:
    """Whether the error says that time ran out."""
    if isinstance(error, TimeoutError):
        return True
    return any("Timeout" in base.__name__ for base in type(error).__mro__)


def is_unsent(error: Exception) -> bool:
    """Whether the error proves that the dependency never began to act on the request."""
    if isinstance(error, ConnectionRefusedError | socket.gaierror):
        return True
    return status_of(error) == 429 or any(name in _UNSENT for name in _names(type(error)))


def status_of(error: Exception) -> int | None:
    """HTTP status an error carries, of httpx, requests, aiohttp or urllib."""
    response = getattr(error, "response", None)
    for holder, name in ((response, "status_code"), (error, "status"), (error, "code")):
        value = getattr(holder, name, None)
        if type(value) is int and 100 <= value <= 599:
            return value
    return None


def _matches(matcher: Matcher, error: Exception) -> bool:
    if isinstance(matcher, type | tuple):
        return isinstance(error, matcher)
    return bool(matcher(error))


def _class_of_group(group: ExceptionGroup[Exception], rules: Rules) -> ErrorClass:
    classes = {classify(leaf, rules) for leaf in group.exceptions}
    for klass in ("critical", "permanent", "unknown", "rejected", "ignored"):
        if klass in classes:
            return klass
    return "transient"


def _class_of(error: Exception) -> ErrorClass:
    for name in _names(type(error)):
        if name in _KNOWN:
            known = _KNOWN[name]
            return _ASK[known](error) if known in _ASK else known  # type: ignore[return-value]  # what is left are classes
    return _class_of_builtin(error)


def _class_of_builtin(error: Exception) -> ErrorClass:
    if isinstance(error, Rejected):
        return "rejected"
    if isinstance(error, StopIteration | StopAsyncIteration | Misused):
        return "ignored"  # no failure of any dependency
    if isinstance(error, MemoryError):
        return "critical"
    if isinstance(error, _PERMANENT_OS):
        return "permanent"
    return "transient" if isinstance(error, OSError) else "unknown"


def _names(kind: type) -> list[str]:
    """Package and name of a class and those it is made of, "httpx.ConnectError" and so on."""
    return [f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in kind.__mro__]


def _class_by_status(error: Exception) -> ErrorClass:
    status = status_of(error)
    if status is None:
        return "unknown"
    return "transient" if status in _TRANSIENT_STATUS else "permanent"


def _class_by_state(error: Exception) -> ErrorClass:
    """By SQLSTATE; without one the connection itself failed, or the driver was misused.

    Source: PostgreSQL documentation, appendix A.
    """
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if not isinstance(state, str):
        broken = ("OperationalError", "InterfaceError")
        by_driver = any(base.__name__ in broken for base in type(error).__mro__)
        return "transient" if by_driver else "permanent"
    if state.startswith(_TRANSIENT_STATES):
        return "transient"
    return "critical" if state.startswith(_CRITICAL_STATES) else "permanent"


def _class_by_origin(error: Exception) -> ErrorClass:
    origin = getattr(error, "orig", None) or error.__cause__
    if isinstance(origin, Exception):
        return _class_of(origin)
    return "transient" if type(error).__name__ == "OperationalError" else "permanent"


_ASK: Mapping[str, Callable[[Any], ErrorClass]] = {
    "status": _class_by_status,
    "state": _class_by_state,
    "origin": _class_by_origin,
}
