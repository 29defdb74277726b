"""Every documented operation, fed everything its schema allows and much it does not.

Schemathesis makes the requests from the OpenAPI document; none may end in a 5xx, in a status or a
content type the document does not name, or in a body that does not have the documented shape.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from django.core import signals
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, connection, transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from apps.health import services as health
from apps.telemetry import ingest
from apps.telemetry.ingest import Ingest
from tests import make
from tests.routes import Rows, rows_of_each_kind

Operation = APIOperation[Any, Any, Any, Any]

pytestmark = pytest.mark.unmeasured
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# Services say who they are; a token of the environment leaves it to them.
MACHINES = ("/reports", "/dead-letters/capture", "/redrives/claim", "/redrives/outcomes")
# Per operation; it may have hundreds, so these are spread evenly over them. Half of the operations
# are asked on SQLite, the others on PostgreSQL.
BOUNDARIES = 8
AT_RANDOM = 2  # per operation, drawn besides
SOUND = 4  # per operation, drawn from those that should succeed
SUCCESS = {200, 201, 202, 204}

schema = schemathesis.openapi.from_wsgi("/api/v1/schema?format=json", get_wsgi_application())


def operations() -> Iterator[Operation]:
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found  # else it is not documented well enough to be called
        if not found.ok().path.endswith("/stream"):  # has no end, and is not Django's: see
            yield found.ok()  # test_raw_doors.py and delivery/test_streams.py


@dataclass(frozen=True)
class World:
    """An environment with a row of each kind, and what was wrong with the answers in it."""

    authorization: str  # of a token that may do everything in the environment
    session: str  # of a person who may do everything everywhere
    rows: Rows
    failures: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)

    def send(self, case: Case[Any]) -> None:
        """Make the request and undo what it did."""
        with transaction.atomic():
            response = case.call(**self.credentials(case.operation))
            transaction.set_rollback(True)
        self.statuses.add(response.status_code)
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as error:
            self.failures.extend(map(str, error.exceptions))

    def credentials(self, operation: Operation) -> dict[str, Any]:
        """Environments are the system's own: no token may change them."""
        if not operation.path.startswith("/api/v1/environments"):
            return {"headers": {"Authorization": self.authorization}}
        csrf = "c" * 32
        cookies = {"sessionid": self.session, "csrftoken": csrf}
        return {"headers": {"X-CSRFToken": csrf}, "cookies": cookies}

    def row_of(self, operation: Operation) -> dict[str, Any]:
        """Parameters of the path with which the operation finds its row."""
        names = [parameter.name for parameter in operation.path_parameters]
        return self.rows.found_by(operation.path, names)

    def etag_of(self, operation: Operation) -> str:
        """The engaged flag and the paused redrive have been changed once since they were made."""
        is_engaged = self.rows.ids["engaged_flag_id"] in self.row_of(operation).values()
        is_paused = operation.path.endswith("/resume")
        return '"2"' if is_paused or (is_engaged and "flags" in operation.path) else '"1"'

    def aimed(self, case: Case[Any]) -> Case[Any]:
        """The case with names of what there is, without which it would be refused."""
        is_machines = case.operation.path.endswith(MACHINES)
        names: dict[str, Any] = {
            "service": self.rows.ids["service"] if is_machines else None,
            "dependency": self.rows.ids["dependency"],
        }
        if case.operation.path.endswith("/checks"):
            names |= {"name": "shop", "kind": "tcp", "address": "tcp://127.0.0.1:9"}
            names |= {"settings": {}}
        if isinstance(case.body, dict):
            given = case.body.keys() | ({"service"} if is_machines else set())
            case.body |= {name: names[name] for name in given & names.keys()}
            if case.operation.path.endswith("/redrives"):  # letters or a group, not both
                case.body.pop("group", None)
                case.body["letters"] = [self.rows.ids["letter_id"]]
            case.body |= self.named_anew(case.body)
        for part, name in ((case.query, "environment"), (case.headers, "Authorization")):
            (part or {}).pop(name, None)
        return case

    def named_anew(self, body: dict[str, Any]) -> dict[str, Any]:
        """What no text or number at random is: a channel's address, an action's rule and leases."""
        found: dict[str, Any] = {}
        if body.keys() >= {"name", "kind", "address"}:
            found |= {"name": "new", "kind": "webhook"}
        if "address" in body:
            found["address"] = "http://127.0.0.1:9/"
        if "rule_id" in body:
            found |= {"rule_id": self.rows.ids["rule_id"], "flag_key": "lean", "reason": "x"}
            found |= {"lease_seconds": 60, "max_lease_seconds": 600, "dependencies": None}
        return found


@pytest.fixture(scope="module")
def open_connections() -> Iterator[None]:
    """Requests leave the database connected, as with Django's own test client."""
    edges = [signals.request_started, signals.request_finished]
    for edge in edges:
        edge.disconnect(close_old_connections)
    yield
    for edge in edges:
        edge.connect(close_old_connections)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Thousands of refusals are what is wanted; only errors are worth a line."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def here(shared_rows: None, open_connections: None) -> World:
    environment = make.environment()
    _token, text = make.token(environment)
    session = make.browser().cookies["sessionid"].value
    return World(f"Bearer {text}", session, rows_of_each_kind(environment))


@pytest.fixture
def world(here: World, db: None, quiet: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same for each operation, of which nothing is known to be wrong."""
    health.take_pulse("celery")  # long ago for some, otherwise
    monkeypatch.setattr(ingest, "current", Ingest())
    return World(here.authorization, here.session, here.rows)


def boundary_cases(operation: Operation) -> list[Case[Any]]:
    """Some of the cases at the edges of the schema, on both sides of them; on one database."""
    if crc32(operation.label.encode()) % 2 != (connection.vendor == "postgresql"):
        return []  # finding them takes longer than asking
    found = list(
        operation.schema.iter_coverage_cases(
            operation=operation,
            generation_modes=MODES,
            generation_config=operation.schema.config.generation_for(
                operation=operation, phase="coverage"
            ),
        )
    )
    return found[:: -(-len(found) // BOUNDARIES) or 1]


def found_by(world: World, operation: Operation) -> dict[str, Any]:
    """What a case needs to find its row, and to be up to date with it."""
    known: dict[str, Any] = {"path_parameters": world.row_of(operation) or None}
    if any(parameter.name == "If-Match" for parameter in operation.headers):
        known["headers"] = {"If-Match": world.etag_of(operation)}
    return known


def any_case(world: World, operation: Operation) -> st.SearchStrategy[Case[Any]]:
    """Requests at random, good and bad, to any address and to that of a row there is."""
    good, bad = MODES
    return st.one_of(
        operation.as_strategy(good),
        operation.as_strategy(bad),
        operation.as_strategy(bad, **found_by(world, operation)),
    )


def sound_case(world: World, operation: Operation) -> st.SearchStrategy[Case[Any]]:
    """Good requests to the address of a row there is."""
    return operation.as_strategy(MODES[0], **found_by(world, operation)).map(world.aimed)


def send_some(world: World, cases: st.SearchStrategy[Case[Any]], number: int) -> None:
    @settings(
        max_examples=number,
        deadline=None,
        derandomize=True,  # a failure is the code's, not the dice's
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def send(case: Case[Any]) -> None:
        world.send(case)

    send()


@pytest.mark.parametrize("operation", list(operations()), ids=lambda operation: operation.label)
def test_no_request_breaks(operation: Operation, world: World) -> None:
    for case in boundary_cases(operation):
        world.send(case)
    send_some(world, any_case(world, operation), AT_RANDOM)
    send_some(world, sound_case(world, operation), SOUND)
    if not world.statuses & SUCCESS:  # of some, few that are sound by the schema are allowed
        send_some(world, sound_case(world, operation), 15 * SOUND)

    assert world.failures == []
    assert world.statuses & SUCCESS  # or only refusals have been looked at
