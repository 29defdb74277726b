"""Lists come in pages: `{results, next}` with an opaque cursor."""

import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

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

FEWEST, MOST = 1, 200  # rows of a page
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


class Pages(CursorPagination):
    """At most 200 rows a page, 50 unless `limit` says otherwise."""

    page_size = 50
    page_size_query_param = "limit"

    def get_page_size(self, request: Request) -> int:
        given = request.query_params.get("limit")
        if given is None:
            return self.page_size
        if not _NUMBER.fullmatch(given) or not FEWEST <= int(given) <= MOST:
            text = _("Must be from %(fewest)d to %(most)d.") % {"fewest": FEWEST, "most": MOST}
            raise RuleBroken(_("`limit` is not a number of rows."), errors={"limit": [text]})
        return int(given)

    def decode_cursor(self, request: Request) -> Any:
        packed = request.query_params.get("cursor")
        if packed is not None and not _is_ours(packed):
            raise _foreign_cursor()
        return super().decode_cursor(request)

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
        RuleBroken: the cursor is none of ours, or the limit out of bounds.
    """
    pages = Pages()
    pages.ordering = tuple(order.split(","))
    try:
        found = pages.paginate_queryset(rows, request, view)
    except (ValueError, OverflowError, ValidationError) as error:
        raise _foreign_cursor() from error
    data = representation(of(found or []), many=True).data
    return pages.get_paginated_response(data)


def _is_ours(packed: str) -> bool:
    """Whether a cursor is of the form that `next` has: which rows it means is asked later."""
    try:
        members = parse_qs(b64decode(packed, validate=True).decode("ascii"), strict_parsing=True)
    except ValueError:
        return False
    numbers = [*members.get("o", []), *members.get("r", [])]
    return (
        members.keys() <= {"o", "p", "r"}
        and all(_NUMBER.fullmatch(number) for number in numbers)
        and not any("\0" in position for position in members.get("p", []))
    )


def _foreign_cursor() -> RuleBroken:
    text = _("This cursor is not one that `next` gave.")
    return RuleBroken(text, errors={"cursor": [text]})


def listed(representation: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """The shape of a page, for OpenAPI."""
    return inline_serializer(
        name=f"{representation.__name__.removesuffix('Out')}Page",
        fields={
            "results": representation(many=True),
            "next": serializers.URLField(allow_null=True),
        },
    )
