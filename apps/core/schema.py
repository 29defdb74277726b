"""OpenAPI: what every operation has in common, said once."""

from typing import Any

from drf_spectacular.openapi import AutoSchema

PROBLEM = {
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


class Schema(AutoSchema):
    """Adds the refusals every operation may answer with, and the environment parameter."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        refusals = dict(REFUSALS)
        if self.method not in {"GET", "HEAD"}:
            refusals |= CHANGING
        for status, description in refusals.items():
            operation["responses"].setdefault(
                status,
                {
                    "description": description,
                    "content": {"application/problem+json": {"schema": PROBLEM}},
                },
            )
        return operation

    def get_tags(self) -> list[str]:
        parts = [part for part in self.path.split("/") if part]
        return [parts[2]] if len(parts) > 2 else ["api"]
