"""OpenAPI: what every operation has in common, said once."""

import re
from typing import Any

from drf_spectacular.extensions import (
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

PROBLEM = {"$ref": "#/components/schemas/Problem"}
_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
        "current": {},
    },
}
REFUSALS = {
    "400": "The body or a parameter is wrong; `errors` says what.",
    "401": "No token or session, or one that is not valid.",
    "403": "The scope is missing.",
    "404": "Not there, or another environment's.",
    "406": "The Accept header names nothing this route can answer with.",
    "413": "The body is over the limit.",
    "415": "The body is not application/json.",
}
CHANGING = {
    "409": "The present state does not allow this.",
    "412": "Changed by somebody else; `current` is the newer state.",
    "428": "If-Match is missing.",
}
READING = {"GET", "HEAD"}
ENVIRONMENT = {
    "name": "environment",
    "in": "query",
    "schema": {"type": "string"},
    "description": "Slug of the environment: for sessions. A token has its own.",
}
IF_MATCH = OpenApiParameter(
    "If-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    required=True,
    description='The ETag last read, such as "3".',
)
PAGE = [
    OpenApiParameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
        description="Rows a page.",
    ),
    OpenApiParameter("cursor", OpenApiTypes.STR, description="From `next` of the page before."),
]


def refused(description: str) -> dict[str, Any]:
    """A response that is a problem."""
    content = {"application/problem+json": {"schema": PROBLEM}}
    return {"description": description, "content": content}


def with_problems(result: dict[str, Any], **_details: Any) -> dict[str, Any]:
    """A hook of drf-spectacular: what operations refer to, once for all of them."""
    components = result["components"]
    texts = REFUSALS | CHANGING
    refusals = {status: refused(text) for status, text in sorted(texts.items())}
    schemas = dict(sorted({**components["schemas"], "Problem": _PROBLEM_SCHEMA}.items()))
    return {**result, "components": {**components, "schemas": schemas, "responses": refusals}}


class AnyJSON(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]  # untyped library
    """A JSON value by its types, so that one that may be null is not said to be null twice."""

    target_class = "rest_framework.serializers.JSONField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean", "object", "array"]}


class NothingElse(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]  # untyped library
    """What `Strict` refuses is not in the schema either."""

    target_class = "apps.core.api.Strict"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        schema = auto_schema._map_serializer(  # type: ignore[no-untyped-call]  # untyped library
            self.target, direction, bypass_extensions=True
        )
        return {**schema, "additionalProperties": False}


class Schema(AutoSchema):
    """Adds the refusals every operation may answer with, and the environment parameter."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        operation.setdefault("parameters", []).append(ENVIRONMENT)
        refusals = REFUSALS.keys() | (CHANGING.keys() if self.method not in READING else set())
        for status in sorted(refusals):
            operation["responses"].setdefault(status, {"$ref": f"#/components/responses/{status}"})
        return operation

    def get_summary(self) -> str | None:
        """The first sentence of the description, which a folded list can show."""
        given: str | None = super().get_summary()
        described = " ".join(self.get_description().split())
        return given or re.split(r"(?<=[.;]) ", described)[0].rstrip(".;") or None

    def get_operation_id(self) -> str:
        """Method and address: unique, and stable while the address is."""
        words = self.path.removeprefix("/api/v1/").replace("{", "").replace("}", "").split("/")
        return "_".join([self.method.lower(), *filter(None, words)]).replace("-", "_")

    def get_tags(self) -> list[str]:
        parts = [part for part in self.path.split("/") if part]
        return [parts[2]] if len(parts) > 2 else ["api"]
