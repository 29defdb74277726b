"""Read-only mode and request counts for Django, sync and async.

    # settings.py
    HOLDFAST = {
        "client": "shop.resilience.hf",        # dotted path; without it: Holdfast() from HOLDFAST_*
        "exempt": ["/webhooks/payments", "/accounts/login/"],
        "writable": ["sessions.Session", "auth.User"],
    }
    MIDDLEWARE = ["holdfast.contrib.django.ReadOnlyMiddleware", ...]        # first
    DATABASE_ROUTERS = ["holdfast.contrib.django.ReadOnlyRouter", ...]      # first

    # urls.py
    urlpatterns = [path("health/holdfast", holdfast.contrib.django.health), ...]

`exempt`: paths that stay open in read-only mode; with a slash at the end everything below, else
exactly the path. `writable`: models (`app.Model`) or apps (`app`) the router lets through in
read-only mode; by default sessions and the user model, which a login writes. To let people log in
exempt the login page as well.
"""

import asyncio
import functools
import json
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import contextmanager
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from django.views.decorators.http import require_safe

from holdfast._scope import RETRY_HEADER, within_retry
from holdfast.client import Holdfast
from holdfast.contrib import _health
from holdfast.contrib._read_only import (
    CLIENT_LEFT,
    CONTENT_TYPE,
    Exempt,
    is_stopped,
    problem,
    retry_after,
)
from holdfast.errors import ReadOnly

__all__ = ["ReadOnlyMiddleware", "ReadOnlyRouter", "client", "health"]

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
        count = _Count(self._client)
        try:
            response: Any = self._refusal(request)
            if response is None:
                with within_retry(RETRY_HEADER in request.headers):
                    response = self._get_response(request)
        except BaseException:
            count.end(500)
            raise
        return count.follow(response)

    async def _async_call(self, request: HttpRequest) -> HttpResponseBase:
        count = _Count(self._client)
        try:
            response: Any = self._refusal(request)
            if response is None:
                with within_retry(RETRY_HEADER in request.headers):
                    response = await self._get_response(request)  # type: ignore[misc]  # async stack
        except asyncio.CancelledError:
            count.end(CLIENT_LEFT)
            raise
        except BaseException:
            count.end(500)
            raise
        return count.follow(response)

    def _refusal(self, request: HttpRequest) -> HttpResponse | None:
        stopped = is_stopped(self._client, request.method or "", request.path_info, self._exempt)
        return self._refuse(request) if stopped else None

    def _refuse(self, request: HttpRequest) -> HttpResponse:
        response = HttpResponse(problem(request.path), status=503, content_type=CONTENT_TYPE)
        response["Retry-After"] = str(retry_after(self._client))
        response["Cache-Control"] = "no-store"
        return response


class _Count:
    """Counts one request when its answer is out, once, however that ends."""

    def __init__(self, client: Holdfast) -> None:
        self._client = client
        self._started = time.perf_counter()
        self._is_counted = False

    def end(self, status: int) -> None:
        if not self._is_counted:
            self._is_counted = True
            self._client.count_request(status, time.perf_counter() - self._started)

    def follow(self, response: Any) -> HttpResponseBase:
        """Count a finished answer now, and one that is still to be produced when it is closed."""
        if response.streaming:
            self._count_when_closed(response)
            if getattr(response, "file_to_stream", None) is None:  # servers send files themselves
                wrap = self._watch_async if response.is_async else self._watch
                response.streaming_content = wrap(response.streaming_content, response.status_code)
        else:
            self.end(response.status_code)
        return response  # type: ignore[no-any-return]  # what sync and async stacks share

    def _count_when_closed(self, response: Any) -> None:
        close = response.close

        def close_and_count() -> None:
            try:
                close()
            finally:
                self.end(response.status_code)

        response.close = close_and_count

    def _watch(self, parts: Iterable[bytes], status: int) -> Iterator[bytes]:
        with self._watched(status):
            yield from parts

    async def _watch_async(self, parts: AsyncIterable[bytes], status: int) -> AsyncIterator[bytes]:
        with self._watched(status):
            async for part in parts:
                yield part

    @contextmanager
    def _watched(self, status: int) -> Iterator[None]:
        """Some servers do not close an answer that broke off: count it then and there."""
        try:
            yield
        except Exception:
            self.end(500)
            raise
        except BaseException:  # the client left
            self.end(status)
            raise


class ReadOnlyRouter:
    """Refuse to name a database for writing while a read-only flag is engaged.

    So a write is refused that no middleware saw: of a management command, of a Celery task. It has
    no say over what names its database itself (`using=…`, migrations) and over raw cursors. What
    locks rows, and what may write though it did not have to, counts as writing:
    `select_for_update`, `get_or_create`.
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


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """How this service stands, as `application/health+json`; always 200, and never slow.

    `checks` says how old the policy is, whether read-only mode is on, and the state of each
    breaker. It names the service's dependencies: let only those ask who may know them.
    """
    body = json.dumps(_health.health_of(client()))
    response = HttpResponse(body, content_type=_health.CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    return response


health.login_required = False  # type: ignore[attr-defined]  # as `login_not_required` of Django 5.1 sets it


def _is_writable(model: type[Model]) -> bool:
    # A proxy of the user model is written by a login just as the user model is.
    models = {model, model._meta.concrete_model or model}
    names = {name for each in models for name in (each._meta.label_lower, each._meta.app_label)}
    return not _writable().isdisjoint(names)


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
