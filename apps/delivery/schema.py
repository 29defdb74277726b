"""The stream, for the OpenAPI document: it is served in front of Django and unknown there."""

from typing import Any

from apps.core.schema import refused

PATH = "/api/v1/policies/{service}/stream"
_REFUSALS = {
    "401": "The token is missing, unknown, expired or revoked.",
    "403": "The token may not read policies.",
    "404": "There is no such service where the token may look.",
    "429": "This token and instance have five streams open already.",
    "503": "Starting or stopping; try again after Retry-After seconds.",
}
_OPERATION: dict[str, Any] = {
    "operationId": "policies_stream",
    "summary": "The document as server-sent events, and every change of it as it is published.",
    "description": (
        "Events: `hello`, `document` (the body of the document on one line), `changed` (the whole "
        "new value of each flag and dependency that changed since revision `base`) and `goodbye`. "
        "A comment every 15 s; silence over 45 s means that the connection is dead."
    ),
    "tags": ["policies"],
    "parameters": [
        {"in": "path", "name": "service", "required": True, "schema": {"type": "string"}},
        {
            "in": "header",
            "name": "Last-Event-ID",
            "schema": {"type": "string"},
            "description": "`<epoch>:<revision>` the client has: no `document` if that is current.",
        },
    ],
    "security": [{"token": []}],
    "responses": {
        "200": {
            "description": "The stream.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **{status: refused(text) for status, text in _REFUSALS.items()},
    },
}


def with_stream(result: dict[str, Any], **details: Any) -> dict[str, Any]:
    """A hook of drf-spectacular: the document with the stream in its place."""
    paths = result["paths"] | {PATH: {"get": _OPERATION}}
    return {**result, "paths": dict(sorted(paths.items()))}
