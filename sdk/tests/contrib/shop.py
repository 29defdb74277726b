"""A tiny Django site, sync and async, for the middleware's tests."""

from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import router
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, re_path
from django.views import View

from holdfast import Holdfast

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


def missing(request: HttpRequest) -> HttpResponse:
    raise Http404


urlpatterns = [
    path("plain", plain),
    path("unhurried", unhurried),
    path("orders/", Orders.as_view()),
    path("writing", writing),
    path("session", session),
    path("broken", broken),
    path("missing", missing),
    re_path("^(?:open|hooks/payments|maintenance).*", plain),
]
