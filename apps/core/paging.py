"""Lists come in pages: `{results, next}` with an opaque cursor."""

from typing import Any

from django.db import models
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView


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
    representation: type[BaseSerializer[Any]],
    request: Request,
    view: APIView,
    *,
    order: str = "-pk",
) -> Response:
    """The page of `rows` that the request asks for, newest first unless `order` says otherwise."""
    pages = Pages()
    found = pages.paginate_queryset(rows.order_by(*order.split(",")), request, view)
    data = representation(found, many=True).data
    return pages.get_paginated_response(data)
