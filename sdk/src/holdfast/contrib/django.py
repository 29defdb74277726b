"""Read-only mode and request counts for Django, sync and async.

    # settings.py
    HOLDFAST = {
        "client": "shop.resilience.hf",        # dotted path; without it: Holdfast() from HOLDFAST_*
        "exempt": ["/webhooks/payments", "/accounts/login/"],
        "writable": ["sessions.Session", "auth.User"],
    }
    MIDDLEWARE = ["holdfast.contrib.django.ReadOnlyMiddleware", ...]        # first
    DATABASE_ROUTERS = ["holdfast.contrib.django.ReadOnlyRouter", ...]      # first

`exempt`: paths that stay open in read-only mode; with a slash at the end everything below, else
exactly the path. `writable`: models (`app.Model`) or apps (`app`) the router lets through in
read-only mode; by default sessions and the user model, which a login writes. To let people log in
exempt the login page as well.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from holdfast.client import Holdfast
from holdfast.contrib._read_only import (
    CLIENT_LEFT,
    CONTENT_TYPE,
    Exempt,
    is_stopped,
    problem,
    retry_after,
)
from holdfast.errors import ReadOnly

__all__ = ["ReadOnlyMiddleware", "ReadOnlyRouter", "client"]

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]

_KNOWN_SETTINGS = {"client", "exempt", "writable"}


@functools.cache
def client() -> Holdfast:
    """The client named by `HOLDFAST["client"]`; without it one made from the environment.

    Raises:
        ImproperlyConfigured: the setting names something else, or has unknown keys.
    """
    name = _settings().get("client")
    if name is None:
        return Holdfast()
    found = import_string(name)
    if not isinstance(found, Holdfast):
        raise ImproperlyConfigured(f'HOLDFAST["client"]: {name} is no holdfast.Holdfast')
    return found


class ReadOnlyMiddleware:
    """Stop what may write while a read-only flag is engaged, and count every request.

    Every method but GET, HEAD, OPTIONS and TRACE is answered 503 `application/problem+json` with
    `Retry-After`, unless its path is exempt; so is a view that runs into the router's `ReadOnly`.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._client = client()
        self._exempt = Exempt(_settings().get("exempt", ()))
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Pass the request on, or answer it; a coroutine in an async stack."""
        return self._async_call(request) if self._is_async else self._sync_call(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer a write the router refused like one refused by its method."""
        return self._refuse(request) if isinstance(exception, ReadOnly) else None

    def _sync_call(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        status = 500
        try:
            response: Any = self._refusal(request)
            if response is None:
                response = self._get_response(request)
            status = response.status_code
        finally:
            self._client.count_request(status, time.perf_counter() - started)
        return response  # type: ignore[no-any-return]  # sync and async stacks share the attribute

    async def _async_call(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        status = 500
        try:
            response: Any = self._refusal(request)
            if response is None:
                response = await self._get_response(request)  # type: ignore[misc]  # async stack
            status = response.status_code
        except asyncio.CancelledError:
            status = CLIENT_LEFT
            raise
        finally:
            self._client.count_request(status, time.perf_counter() - started)
        return response  # type: ignore[no-any-return]  # as above

    def _refusal(self, request: HttpRequest) -> HttpResponse | None:
        stopped = is_stopped(self._client, request.method or "", request.path_info, self._exempt)
        return self._refuse(request) if stopped else None

    def _refuse(self, request: HttpRequest) -> HttpResponse:
        response = HttpResponse(problem(request.path), status=503, content_type=CONTENT_TYPE)
        response["Retry-After"] = str(retry_after(self._client))
        response["Cache-Control"] = "no-store"
        return response


class ReadOnlyRouter:
    """Refuse to name a database for writing while a read-only flag is engaged.

    It has no say over `using=…`, raw cursors and other ways around Django's routers.
    """

    def db_for_write(self, model: type[Model], **hints: Any) -> None:
        """Let the next router decide, or refuse.

        Raises:
            ReadOnly: a read-only flag is engaged and the model is not among `writable`.
        """
        flag = client().read_only_flag
        if flag is not None and not _is_writable(model):
            raise ReadOnly(
                model._meta.label,
                flag=flag.key,
                flag_reason=flag.reason,
                retry_after=flag.remaining_seconds,
            )


def _is_writable(model: type[Model]) -> bool:
    return not _writable().isdisjoint({model._meta.label_lower, model._meta.app_label})


@functools.cache
def _writable() -> frozenset[str]:
    names = _settings().get("writable", ("sessions.Session", settings.AUTH_USER_MODEL))
    return frozenset(name.lower() for name in names)


def _settings() -> dict[str, Any]:
    found: dict[str, Any] = getattr(settings, "HOLDFAST", {})
    if unknown := sorted(set(found) - _KNOWN_SETTINGS):
        raise ImproperlyConfigured(f"HOLDFAST: unknown keys {unknown}")
    return found


def _forget(*, setting: str, **details: Any) -> None:
    """Read the settings again after a test has overridden them."""
    if setting in {"HOLDFAST", "AUTH_USER_MODEL"}:
        client.cache_clear()
        _writable.cache_clear()


setting_changed.connect(_forget, dispatch_uid="holdfast.contrib.django")
