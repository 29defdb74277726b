"""Lists come in pages: `{results, next}` with an opaque cursor."""

from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _
from drf_spectacular.utils import inline_serializer
from rest_framework import serializers
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.errors import RuleBroken


class Pages(CursorPagination):
    """At most 200 rows a page, 50 unless `limit` says otherwise."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.get_next_link()})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["results", "next"],
            "properties": {
                "results": schema,
                "next": {"type": ["string", "null"], "format": "uri"},
            },
        }


def page_of(
    rows: models.QuerySet[Any],
    representation: type[serializers.BaseSerializer[Any]],
    request: Request,
    view: APIView,
    *,
    order: str = "-pk",
    of: Callable[[list[Any]], Sequence[Any]] = list,
) -> Response:
    """The page of `rows` that the request asks for, newest first unless `order` says otherwise.

    `of` turns the rows of the page into what is represented.

    Raises:
        RuleBroken: the cursor is none of ours.
    """
    pages = Pages()
    pages.ordering = tuple(order.split(","))
    try:
        found = pages.paginate_queryset(rows, request, view)
    except (ValueError, OverflowError, ValidationError) as error:
        raise RuleBroken(_("This cursor is not one that `next` gave.")) from error
    data = representation(of(found or []), many=True).data
    return pages.get_paginated_response(data)


def listed(representation: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """The shape of a page, for OpenAPI."""
    return inline_serializer(
        name=f"{representation.__name__.removesuffix('Out')}Page",
        fields={
            "results": representation(many=True),
            "next": serializers.URLField(allow_null=True),
        },
    )
