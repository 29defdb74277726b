"""JSON Schema of a policy document, generated from the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

from holdfast.spec.flags import FLAG_KINDS, FLAG_SCOPES, ON_STALE, OVERRIDE_MODES
from holdfast.spec.rows import Setting
from holdfast.spec.table import PATTERNS

_INSTANT = {"type": ["string", "null"], "format": "date-time"}
_TEXT = {"type": ["string", "null"]}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the document of one service; the caller's own copy."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Holdfast policy document",
        "type": "object",
        "required": ["meta", "flags", "dependencies"],
        "properties": {
            "meta": _meta(),
            "flags": {"type": "object", "additionalProperties": _flag()},
            "dependencies": {"type": "object", "additionalProperties": _dependency()},
        },
    }


def _meta() -> dict[str, Any]:
    properties: dict[str, Any] = {
        "schema": {"type": "integer", "minimum": 1},
        "epoch": {"type": "string", "minLength": 1},
        "revision": {"type": "integer", "minimum": 0},
        "environment": {"type": "string"},
        "service": {"type": "string"},
        "published_at": _INSTANT,
        "stale_after_seconds": {"type": "number", "exclusiveMinimum": 0},
    }
    return {"type": "object", "required": ["epoch", "revision"], "properties": properties}


def _flag() -> dict[str, Any]:
    properties: dict[str, Any] = {
        "kind": {"enum": list(FLAG_KINDS)},
        "scope": {"enum": list(FLAG_SCOPES)},
        "dependencies": {"type": ["array", "null"], "items": {"type": "string"}},
        "enabled": {"type": "boolean"},
        "value": {},
        "percentage": {"type": "number", "minimum": 0, "maximum": 100},
        "reason": _TEXT,
        "set_by": _TEXT,
        "set_at": _INSTANT,
        "expires_at": _INSTANT,
        "on_stale": {"enum": list(ON_STALE)},
    }
    return {"type": "object", "required": ["kind", "enabled"], "properties": properties}


def _dependency() -> dict[str, Any]:
    properties = {key: _pattern(key) for key in PATTERNS}
    properties["override"] = {
        "type": ["object", "null"],
        "required": ["mode"],
        "properties": {
            "mode": {"enum": list(OVERRIDE_MODES)},
            "reason": _TEXT,
            "expires_at": _INSTANT,
        },
    }
    return {"type": "object", "properties": properties}


def _pattern(key: str) -> dict[str, Any]:
    pattern = PATTERNS[key]
    return {
        "title": pattern.title,
        "description": pattern.help,
        "type": "object",
        "properties": _properties(pattern.settings.values()),
    }


def _properties(rows: Iterable[Setting]) -> dict[str, Any]:
    return {row.key: _setting(row) for row in rows}


def _setting(row: Setting) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": row.help, "default": deepcopy(row.default)}
    if row.unit:
        schema["x-unit"] = row.unit
    return schema | _SHAPES[row.type](row)


def _range(row: Setting, kind: str) -> dict[str, Any]:
    return {"type": kind, "minimum": row.minimum, "maximum": row.maximum}


def _array(row: Setting, items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "maxItems": row.max_items, "items": items}


def _object(row: Setting) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(row.required),
        "properties": _properties(row.members),
        "additionalProperties": False,
    }


def _map(row: Setting) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {choice: _object(row) for choice in row.choices},
        "additionalProperties": False,
    }


_SHAPES: Mapping[str, Callable[[Setting], dict[str, Any]]] = {
    "bool": lambda row: {"type": "boolean"},
    "int": lambda row: _range(row, "integer"),
    "seconds": lambda row: _range(row, "number"),
    "share": lambda row: _range(row, "number"),
    "number": lambda row: _range(row, "number"),
    "choice": lambda row: {"enum": list(row.choices)},
    "choices": lambda row: _array(row, {"enum": list(row.choices)}),
    "strings": lambda row: _array(row, {"type": "string", "maxLength": 500}),
    "list": lambda row: _array(row, _object(row)),
    "map": _map,
    "text": lambda row: {"type": "string", "maxLength": 500},
    "json": lambda row: {},
}
