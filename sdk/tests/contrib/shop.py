"""A tiny Django site, sync and async, for the middleware's tests."""

from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import router
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    StreamingHttpResponse,
)
from django.urls import path, re_path
from django.views import View

from holdfast import Holdfast
from holdfast.contrib.django import health

hf: Holdfast  # the test's, put here by its fixture
not_a_client = object()


def plain(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse("done")


async def unhurried(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


class Orders(View):
    """A view with a handler for every method."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse("done")


def writing(request: HttpRequest) -> HttpResponse:
    """A page that writes while it is read."""
    router.db_for_write(ContentType)
    return HttpResponse("done")


def session(request: HttpRequest) -> HttpResponse:
    router.db_for_write(Session)
    return HttpResponse("done")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("bug")


def parts(request: HttpRequest) -> StreamingHttpResponse:
    def produce() -> Iterator[str]:
        yield "half"
        if "break" in request.GET:
            raise RuntimeError("bug")
        yield "done"

    return StreamingHttpResponse(produce())


async def parts_async(request: HttpRequest) -> StreamingHttpResponse:
    async def produce() -> AsyncIterator[str]:
        yield "half"
        if "break" in request.GET:
            raise RuntimeError("bug")
        yield "done"

    return StreamingHttpResponse(produce())


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(BytesIO(b"done"))


def missing(request: HttpRequest) -> HttpResponse:
    raise Http404


urlpatterns = [
    path("plain", plain),
    path("health", health),
    path("unhurried", unhurried),
    path("orders/", Orders.as_view()),
    path("writing", writing),
    path("session", session),
    path("broken", broken),
    path("missing", missing),
    path("parts", parts),
    path("parts-async", parts_async),
    path("file", file),
    re_path("^(?:open|hooks/payments|maintenance).*", plain),
]
