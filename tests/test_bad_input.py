"""Whatever comes in: refused in words, at every route, and nothing is written.

The routes come from the URL resolver, so a new one is held to this from its first day.
"""

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.apps import apps
from django.http import HttpResponse
from django.test import Client

from apps.telemetry import ingest
from apps.telemetry.ingest import Ingest
from tests import make
from tests.routes import WRITES, Route, Rows, api_routes, rows_of_each_kind

MiB = 1024 * 1024
ROUTES = api_routes()
READS = [route for route in ROUTES if "GET" in route.methods]
BODIES = [
    (route, method) for route in ROUTES for method in route.methods if method in WRITES - {"DELETE"}
]
OPEN = {"docs", "schema", "schema/policy.json", "health/live", "health/ready"}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "INVENTED")


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
        b'{"scopes": [%s], "dependencies": [%s]}' % (b"{}," * 200_000 + b"0", b"0," * 200_000 + b"0")
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


@dataclass(frozen=True)
class Doors:
    """The API of one environment, for somebody who may do everything."""

    rows: Rows
    api: Client
    token: str
    person: Client  # a superuser's: no token may change environments

    def send(
        self,
        route: Route,
        method: str,
        *,
        content: bytes = b"",
        content_type: str = "application/json",
        query: str = "",
        suffix: str = "",
        **headers: Any,
    ) -> HttpResponse:
        is_system = route.pattern.startswith("environments")
        own = {} if is_system else {"Authorization": f"Bearer {self.token}"}
        return self._client(is_system).generic(
            method,
            self.path(route) + suffix + query,
            content,
            content_type,
            headers=own | headers,
        )

    def _client(self, is_system: bool) -> Client:
        return self.person if is_system else self.api

    def path(self, route: Route) -> str:
        names = [name for _converter, name in route.parameters]
        return route.path(self.rows.found_by(route.pattern, names))


@pytest.fixture
def doors(db: None, monkeypatch: pytest.MonkeyPatch) -> Doors:
    monkeypatch.setattr(ingest, "current", Ingest())
    environment = make.environment()
    _token, text = make.token(environment)
    doors = Doors(rows_of_each_kind(environment), Client(), text, make.browser())
    doors.send(ROUTES[0], "GET")  # a token's first use is written down
    return doors


def everything() -> dict[str, list[Any]]:
    """Every row of every table."""
    return {
        model._meta.label: sorted(map(repr, model._default_manager.values_list()))
        for model in apps.get_models()
    } | {"reports that wait": [len(ingest.current)]}


def refusals(answers: dict[str, HttpResponse]) -> dict[str, tuple[int, str]]:
    """Status and kind of each answer."""
    return {
        name: (answer.status_code, answer.headers.get("Content-Type", ""))
        for name, answer in answers.items()
    }


def problems(names: Any, status: int) -> dict[str, tuple[int, str]]:
    """What `refusals` is if all are problems of that status."""
    return dict.fromkeys(names, (status, "application/problem+json"))


class TestBodies:
    @pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
    def test_a_bad_body_is_refused_and_nothing_is_written(self, doors: Doors, bad: Bad) -> None:
        before = everything()

        answers = {
            f"{method} {route}": doors.send(
                route,
                method,
                content=bad.content,
                content_type=bad.content_type,
                **{"If-Match": '"1"'} | bad.headers,
            )
            for route, method in BODIES
        }

        assert refusals(answers) == problems(answers, bad.status)
        assert everything() == before
