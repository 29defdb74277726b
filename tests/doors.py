"""Requests to every route of the API, and what is compared of the answers."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pytest
from django.apps import apps
from django.http import HttpResponse
from django.test import Client

from apps.health import services as health
from apps.telemetry import ingest
from apps.telemetry.ingest import Ingest
from tests import make
from tests.routes import Route, Rows, default_settings, rows_of_each_kind

PROBLEM = "application/problem+json"
REASON = {"reason": "x"}
T = TypeVar("T")


@dataclass(frozen=True)
class Doors:
    """The API of one environment, for somebody who may do everything."""

    rows: Rows
    client: Client
    token: str
    person: Client  # a superuser's: no token may change environments

    def send(
        self,
        route: Route,
        method: str,
        *,
        content: bytes = b"",
        content_type: str = "application/json",
        path: str = "",
        **headers: Any,
    ) -> HttpResponse:
        is_system = route.pattern.startswith("environments")
        own = {} if is_system else {"Authorization": f"Bearer {self.token}"}
        client = self.person if is_system else self.client
        answer = client.generic(
            method, path or self.path(route), content, content_type, headers=own | headers
        )
        return cast("HttpResponse", answer)  # the stubs know it by a private name

    def send_as(self, authorization: str, route: Route, method: str) -> HttpResponse:
        """The same from somebody with that `Authorization` header and no session."""
        headers = {"Authorization": authorization}
        answer = self.client.generic(
            method, self.path(route), b"{}", "application/json", headers=headers
        )
        return cast("HttpResponse", answer)  # the stubs know it by a private name

    def refusal(self, route: Route, method: str, body: Any) -> dict[str, list[str]]:
        """The errors by field with which a body is refused."""
        content = json.dumps(body).encode()
        answer = self.send(route, method, content=content, **{"If-Match": '"1"'})
        assert answer.status_code == 400, (method, route, answer.content)
        errors: dict[str, list[str]] = json.loads(answer.content).get("errors", {})
        return errors

    def path(self, route: Route) -> str:
        """The address at which the route finds its row."""
        names = [name for _converter, name in route.parameters]
        return route.path(self.rows.found_by(route.pattern, names))

    def sound_body(self, route: Route) -> bytes:
        """A body there is nothing wrong with, for routes that change a row."""
        bodies: dict[str, Any] = {
            f"configs/{pattern}/<int:config_id>": {"settings": settings}
            for pattern, settings in default_settings().items()
        } | {
            "environments/<int:environment_id>": {"name": "x"},
            "services/<int:service_id>": {"owner": "x"},
            "dependencies/<int:dependency_id>": {"description": "x"},
            "flags/<int:flag_id>/extend": {"lease_seconds": 3600},
            "checks/<int:check_id>": {"interval_seconds": 60},
            "checks/<int:check_id>/test": {},
            "checks/<int:check_id>/ping": {"exit_code": 0},
            "alert-rules/<int:rule_id>": {"severity": "info"},
            "alert-settings": {"frozen": True} | REASON,
            "alerts/<int:alert_id>/acknowledge": {"note": "x"},
            "channels/<int:channel_id>": {"enabled": True},
            "channels/<int:channel_id>/test": {"note": "x"},
            "presets/<str:name>/apply": {"dependency": self.rows.ids["dependency"]},
            "presets/<str:name>/plan": {"dependency": self.rows.ids["dependency"]},
            "revisions/<int:number>/rollback/plan": {},
        }
        return json.dumps(bodies.get(route.pattern, REASON)).encode()


def open_doors() -> Doors:
    """A new environment's."""
    environment = make.environment()
    _token, text = make.token(environment)
    return Doors(rows_of_each_kind(environment), Client(), text, make.browser())


def opened_anew(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> Doors:
    """The same in a process that has accepted no report yet."""
    monkeypatch.setattr(ingest, "current", Ingest())
    health.take_pulse("celery")  # long ago, otherwise
    doors.send(Route("services", ("GET",)), "GET")  # that the token was used is written down
    return doors


def everything() -> dict[str, list[Any]]:
    """Every row of every table, and what waits to become one."""
    return {
        model._meta.label: sorted(map(repr, model._default_manager.values_list()))
        for model in apps.get_models()
    } | {"reports": [len(ingest.current)]}


Kind = tuple[int, str, int | None]


def kinds(answers: dict[str, HttpResponse]) -> dict[str, Kind]:
    """Status and content type of each answer; of a problem also the status it names."""
    return {name: kind_of(answer) for name, answer in answers.items()}


def kind_of(answer: HttpResponse) -> Kind:
    content_type = answer.headers.get("Content-Type", "")
    named = json.loads(answer.content)["status"] if content_type == PROBLEM else None
    return answer.status_code, content_type, named


def spread(turn: int, of: int, some: Iterable[T]) -> Iterator[T]:
    """Every `of`-th of them, at each turn others: what is the same code is not asked every time."""
    return (each for number, each in enumerate(some) if (number + turn) % of == 0)


def problems(names: Iterable[str], status: int) -> dict[str, Kind]:
    """What `kinds` is if all are problems of that status."""
    return dict.fromkeys(names, (status, PROBLEM, status))
