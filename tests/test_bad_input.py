"""Whatever a body holds: refused in words, at every route that takes one, and nothing is written.

The routes come from the URL resolver, so a new one is held to this from its first day.
"""

import gzip
import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

from tests.doors import Doors, everything, kinds, open_doors, opened_anew, problems, spread
from tests.routes import Route, api_routes

MiB = 1024 * 1024
pytestmark = pytest.mark.unmeasured
BODIES = [
    (route, method)
    for route in api_routes()
    for method in route.methods
    if method in {"POST", "PUT", "PATCH"}
]


@dataclass(frozen=True)
class Bad:
    """A body, and how it must be refused."""

    content: bytes
    status: int = 400
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


BAD = {
    "cut short": Bad(b'{"reason": "x'),
    "two values": Bad(b"{} {}"),
    "a list": Bad(b"[]"),
    "text": Bad(b'"reason"'),
    "a number": Bad(b"1"),
    "null": Bad(b"null"),
    "true": Bad(b"true"),
    "NaN": Bad(b'{"percentage": NaN}'),
    "not UTF-8": Bad(b'{"reason": "\xff\xfe"}'),
    "UTF-16": Bad('{"reason": "x"}'.encode("utf-16")),
    "half a surrogate pair": Bad(rb'{"reason": "\ud800"}'),
    "a NUL byte": Bad(b'{"reason": "a\x00b"}'),
    "a NUL character": Bad(rb'{"reason": "a\u0000b"}'),
    "a NUL in a name": Bad(rb'{"a\u0000b": 1}'),
    "a number of a million digits": Bad(b'{"lease_seconds": %s}' % (b"9" * 1_000_000)),
    "a fraction of a million digits": Bad(b'{"percentage": 0.%s}' % (b"9" * 1_000_000)),
    "a huge exponent": Bad(b'{"percentage": 1e999999999}'),
    "lists nested deep": Bad(b"[" * 500_000),
    "objects nested deep": Bad(b'{"value":' * 100_000),
    "nested deep and closed": Bad(b'{"value": %s%s}' % (b"[" * 400_000, b"]" * 400_000)),
    "thousands of unknown fields": Bad(json.dumps({str(n): 0 for n in range(80_000)}).encode()),
    "endless lists": Bad(
        b'{"scopes": [%s], "dependencies": [%s]}'
        % (b"{}," * 200_000 + b"0", b"0," * 200_000 + b"0")
    ),
    "an empty name": Bad(b'{"": 1}'),
    "over the limit": Bad(b" " * MiB + b"{}", 413),
    "over the limit when unpacked": Bad(
        gzip.compress(b" " * 50 * MiB), 413, headers={"Content-Encoding": "gzip"}
    ),
    "no gzip": Bad(b"{}", headers={"Content-Encoding": "gzip"}),
    "gzip cut short": Bad(
        gzip.compress(b"{}" + b" " * 99)[:-9], headers={"Content-Encoding": "gzip"}
    ),
    "another encoding": Bad(b"{}", 415, headers={"Content-Encoding": "br"}),
    "a form": Bad(b"reason=x", 415, "application/x-www-form-urlencoded"),
    "a broken multipart form": Bad(b"--x", 415, "multipart/form-data; boundary=y"),
    "XML": Bad(b"<reason/>", 415, "application/xml"),
    "no content type": Bad(b"{}", 415, ""),
    "a senseless content type": Bad(b"{}", 415, "/;;=;\xe9"),
}


@pytest.fixture(scope="module")
def opened(shared_rows: None) -> Doors:
    return open_doors()


@pytest.fixture
def doors(opened: Doors, db: None, monkeypatch: pytest.MonkeyPatch) -> Doors:
    return opened_anew(opened, monkeypatch)


@pytest.mark.one_database
class TestBodies:
    @pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
    def test_a_bad_body_is_refused_and_nothing_is_written(self, doors: Doors, bad: Bad) -> None:
        before = everything()

        answers = {
            f"{method} {route}": doors.send(
                route,
                method,
                content=padding(route, bad) + bad.content,
                content_type=bad.content_type,
                **{"If-Match": '"1"'} | bad.headers,
            )
            for route, method in spread(list(BAD.values()).index(bad), 3, BODIES)
        }

        assert kinds(answers) == problems(answers, bad.status)
        assert everything() == before


def padding(route: Route, bad: Bad) -> bytes:
    """What a route that takes more than others needs besides, to be over its own limit."""
    is_larger = route.pattern == "dead-letters/capture" and bad.status == 413 and not bad.headers
    return b" " * 7 * MiB if is_larger else b""


@dataclass(frozen=True)
class Field:
    """A member of a body, as OpenAPI describes it."""

    route: Route
    method: str
    name: str
    schema: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.route}: {self.name}"

    @property
    def bounds(self) -> tuple[int, int] | None:
        if {"minimum", "maximum"} <= self.schema.keys():
            return self.schema["minimum"], self.schema["maximum"]
        return None

    @property
    def wrong(self) -> Any:
        """A value of a type it does not take; nested, unless it is an object itself."""
        is_object = self.name in {"settings", "requests", "resources"}
        return "text" if is_object else {"wrong": ["type"]}


@cache
def fields() -> list[Field]:
    document = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # untyped library
    return [
        Field(route, method, name, schema)
        for route, method in BODIES
        for name, schema in members(document, route, method).items()
    ]


def members(document: dict[str, Any], route: Route, method: str) -> dict[str, dict[str, Any]]:
    """The members of the body of an operation, without those that take any JSON."""
    path = route.path({name: f"{{{name}}}" for _converter, name in route.parameters})
    body = document["paths"][path][method.lower()]["requestBody"]
    shape = body["content"]["application/json"]["schema"]
    if "$ref" in shape:
        shape = document["components"]["schemas"][shape["$ref"].rpartition("/")[2]]
    found: dict[str, dict[str, Any]] = shape.get("properties", {})
    return {name: schema for name, schema in found.items() if name != "value"}


class TestFields:
    def test_an_unknown_field_is_refused_by_name(self, doors: Doors) -> None:
        refused = {
            f"{method} {route}": doors.refusal(route, method, {"no_such_field": 1})
            for route, method in BODIES
            if route.pattern != "reports"  # servers take what newer SDKs say besides
        }

        named = {name: " ".join(errors) for name, errors in refused.items()}
        assert named == dict.fromkeys(refused, "no_such_field")

    def test_the_wrong_type_is_refused_by_the_fields_name(self, doors: Doors) -> None:
        before = everything()

        refused = {
            str(field): doors.refusal(field.route, field.method, {field.name: field.wrong})
            for field in fields()
        }

        named = {name: has_one_under(name.rpartition(" ")[2], refused[name]) for name in refused}
        assert named == dict.fromkeys(refused, True)
        assert everything() == before

    def test_a_number_out_of_bounds_is_told_the_range(self, doors: Doors) -> None:
        bounded = [(field, field.bounds) for field in fields() if field.route.pattern != "reports"]

        told = {
            (str(field), number): doors.refusal(field.route, field.method, {field.name: number})
            for field, bounds in bounded
            if bounds
            for number in (bounds[0] - 1, bounds[1] + 1)
        }
        texts = {
            (str(field), number): [f"Must be from {bounds[0]} to {bounds[1]}."]
            for field, bounds in bounded
            if bounds
            for number in (bounds[0] - 1, bounds[1] + 1)
        }

        assert told
        assert {case: told[case].get(case[0].rpartition(" ")[2]) for case in told} == texts


def has_one_under(name: str, errors: dict[str, list[str]]) -> bool:
    return any(path.partition(".")[0].partition("[")[0] == name for path in errors)
