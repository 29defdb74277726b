"""What every API view is made of: strict input, the version the caller knows, the answer."""

import re
from collections.abc import Mapping
from heapq import nsmallest
from typing import Any

from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.errors import PreconditionRequired, RuleBroken
from apps.core.leases import LONGEST_LEASE, SHORTEST_LEASE

_COMMON = {"environment", "limit", "cursor"}  # parameters of every list
MOST_NAMED = 20  # unknown members of one body: an answer must not outgrow its request
_VERSION = re.compile(r'^(?:W/)?"(\d{1,9})"$')


def if_match(request: Request) -> int:
    """The version in the `If-Match` header.

    Raises:
        PreconditionRequired: there is no such header.
        RuleBroken: it holds no version of ours.
    """
    given = request.headers.get("If-Match", "").strip()
    if not given:
        raise PreconditionRequired(
            _("Send If-Match with the ETag you last read, so that no newer change is overwritten.")
        )
    match = _VERSION.match(given)
    if match is None:
        raise RuleBroken(_('If-Match must be one ETag of this resource, such as "3".'))
    return int(match.group(1))


class Strict(serializers.Serializer[Any]):
    """Input: members not listed here are refused by name, and so are numbers in place of text."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := set(data) - set(self.fields)):
            known = ", ".join(sorted(self.fields))
            raise serializers.ValidationError(
                {
                    name: [_("Unknown field. Known fields: %(known)s.") % {"known": known}]
                    for name in nsmallest(MOST_NAMED, unknown)
                }
            )
        if isinstance(data, Mapping) and (numbers := self._numbers_for_text(data)):
            raise serializers.ValidationError({name: [_("Not text.")] for name in numbers})
        return super().to_internal_value(data)

    def _numbers_for_text(self, data: Mapping[str, Any]) -> list[str]:
        """Fields of text that were given a number, which the framework would spell out."""
        return [
            name
            for name, field in self.fields.items()
            if isinstance(field, serializers.CharField) and isinstance(data.get(name), int | float)
        ]


class Number(serializers.FloatField):
    """A JSON number; text and booleans are something else."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**_with_range(options))

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    """A JSON number without a fraction; text and booleans are something else."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**_with_range(options))

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return super().to_internal_value(data)


def _with_range(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a number with both bounds, so that a refusal says both."""
    least, most = options.get("min_value"), options.get("max_value")
    if least is None or most is None:
        return options
    text = format_lazy(lazy("Must be from {least} to {most}."), least=least, most=most)
    return options | {"error_messages": {"min_value": text, "max_value": text}}


def lease_field(**options: Any) -> Whole:
    """`lease_seconds` of a body; see `core.leases`."""
    return Whole(
        min_value=int(SHORTEST_LEASE.total_seconds()),
        max_value=int(LONGEST_LEASE.total_seconds()),
        allow_null=True,
        **options,
    )


def valid(shape: type[serializers.Serializer[Any]], data: Any) -> dict[str, Any]:
    """The validated values of a body; raises DRF's ValidationError with an error per field."""
    body = shape(data=data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


def query(shape: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """The validated filters of a list; a parameter nobody knows is refused by name.

    A mistyped filter that is silently left out answers a question nobody asked.
    """
    given = {name: value for name, value in request.query_params.items() if name not in _COMMON}
    return valid(shape, given)


def respond(
    representation: serializers.BaseSerializer[Any],
    *,
    version: int | None = None,
    status: int = 200,
    location: str = "",
) -> Response:
    """A representation with its ETag and, for something new, its Location."""
    response = Response(representation.data, status)
    if version is not None:
        response["ETag"] = f'"{version}"'
    if location:
        response["Location"] = location
    return response
