"""Routes that answer with and without a trailing slash."""

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern
from django.urls.resolvers import RoutePattern


def route(pattern: str, view: Callable[..., Any], name: str = "") -> URLPattern:
    """`path(pattern)` that also matches with one slash behind it."""
    return URLPattern(
        _OptionalSlash(pattern, name=name, is_endpoint=True), view, None, name or None
    )


class _OptionalSlash(RoutePattern):
    def match(self, path: str) -> Any:
        return super().match(path) or (super().match(path[:-1]) if path.endswith("/") else None)
