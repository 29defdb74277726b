"""POST /api/v1/reports: what is taken, what is refused, and in which words."""

import gzip
import json
from typing import Any

import pytest
from django.test.client import Client

from apps.audit.models import Entry
from apps.delivery.snapshot import Key
from apps.fleet.models import Service
from apps.telemetry import ingest
from apps.telemetry.gate import ReportsGate
from apps.telemetry.ingest import Ingest
from tests import make

pytestmark = pytest.mark.django_db

INSTANCE = "6a9d1a6e-6d3c-4d55-9a0b-3f6e8e8f6a11"
EVENT = {"at": "2026-11-22T14:00:00Z", "type": "breaker.state_changed"}


def post(token: str, body: bytes | dict[str, Any], **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Client().post(
        "/api/v1/reports",
        content,
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}", **headers},
    )


@pytest.fixture
def token() -> str:
    """Of a service called checkout."""
    return make.token(of=make.service(slug="checkout"))[1]


class TestAccepted:
    def test_report_is_taken_and_told_the_interval(self, token: str, own_ingest: Ingest) -> None:
        answer = post(token, make.report())

        assert (answer.status_code, answer.json()) == (202, {"report_seconds": 5.0})
        assert len(own_ingest) == 1

    def test_members_of_newer_sdks_are_ignored(self, token: str) -> None:
        newer = make.calls(hedges=3) | {"breaker": {"state": "open", "mood": "bad"}}
        body = make.report(dependencies={"payments-api": newer}, colour=["blue"])

        assert post(token, body).status_code == 202

    def test_gzip(self, token: str, own_ingest: Ingest) -> None:
        body = gzip.compress(json.dumps(make.report()).encode())

        assert post(token, body, **{"Content-Encoding": "gzip"}).status_code == 202
        assert len(own_ingest) == 1

    def test_a_token_for_all_services_names_one_which_is_discovered(self) -> None:
        place = make.environment()

        answer = post(make.token(place)[1], make.report(service="inventory"))

        assert answer.status_code == 202
        assert Service.objects.filter(environment=place, slug="inventory").exists()
        entry = Entry.objects.get(action="service.discovered")
        assert (entry.actor_kind, entry.object_label) == ("automation", "inventory")


class TestRefused:
    @pytest.mark.parametrize(
        ("members", "named"),
        [
            ({"instance": "x"}, "instance"),
            ({"instance": None}, "instance"),
            ({"sequence": 0}, "sequence"),
            ({"sequence": 1.5}, "sequence"),
            ({"sequence": "1"}, "sequence"),
            ({"sequence": 10**400}, "sequence"),
            ({"stopping": 1}, "stopping"),
            ({"epoch": 7}, "epoch"),
            ({"applied_revision": -1}, "applied_revision"),
            ({"applied_at": "yesterday"}, "applied_at"),
            ({"applied_at": "2026-11-22T14:00:00"}, "applied_at"),
            ({"window_seconds": 1e300}, "window_seconds"),
            ({"refused": [{"code": "x"}]}, "refused[0]"),
            ({"requests": {"4xx": -1}}, "requests.4xx"),
            ({"requests": {"latency": {"158": 1}}}, "requests.latency"),
            ({"resources": {"cpu": "full"}}, "resources.cpu"),
            ({"dependencies": []}, "dependencies"),
            ({"dependencies": {"a": {"calls": -1}}}, "dependencies.a.calls"),
            ({"dependencies": {"a": {"calls": 2**32}}}, "dependencies.a.calls"),
            ({"dependencies": {"a": {"rejected": {"open": True}}}},
             "dependencies.a.rejected.open"),
            ({"dependencies": {"a": {"breaker": {"state": "ajar"}}}},
             "dependencies.a.breaker.state"),
            ({"dependencies": {"a": {"latency": {"-1": 1}}}}, "dependencies.a.latency"),
            ({"dependencies": {"a": {"latency": {"158": 1}}}}, "dependencies.a.latency"),
            ({"events": [EVENT] * 201}, "events"),
            ({"events": [EVENT | {"at": 5}]}, "events[0].at"),
            ({"events": [EVENT | {"data": {"a": "x" * 5000}}]}, "events[0].data"),
            ({"events": [EVENT | {"data": {"a": [[[[[[1]]]]]]}}]}, "events[0].data"),
        ],
    )  # fmt: skip
    def test_wrong_member_is_named(
        self, token: str, own_ingest: Ingest, members: dict[str, Any], named: str
    ) -> None:
        answer = post(token, make.report(**members))

        assert answer.status_code == 400
        assert answer["Content-Type"] == "application/problem+json"
        assert list(answer.json()["errors"]) == [named]
        assert len(own_ingest) == 0

    @pytest.mark.parametrize(
        ("members", "text"),
        [
            ({"sequence": 0}, "Must be a whole number from 1 to 9007199254740991."),
            ({"sequence": "1"}, "Must be a whole number from 1 to 9007199254740991."),
            ({"window_seconds": -1}, "Must be a number from 0 to 1000000000."),
            ({"refused": [{"path": "x", "revision": -1}]},
             "Must be a whole number from 0 to 9007199254740991."),
            ({"dependencies": {"a": {"calls": -1}}},
             "Must be a whole number from 0 to 4294967295."),
            ({"dependencies": {"a": {"latency": {"3": -1}}}},
             "Must be a whole number from 0 to 4294967295."),
        ],
    )  # fmt: skip
    def test_a_number_out_of_bounds_is_told_its_range(
        self, token: str, members: dict[str, Any], text: str
    ) -> None:
        answer = post(token, make.report(**members))

        assert list(answer.json()["errors"].values()) == [[text]]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff",
            b'{"sequence": NaN}',
            b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"events": [{"data": {"x": ' + b"[" * 900 + b"]" * 900 + b"}}]}",
            json.dumps(make.report(name="a\x00b")).encode(),
            json.dumps(make.report()).replace("checkout", "\\ud800").encode(),
        ],
        ids=range(10),
    )
    def test_garbage_is_a_problem_not_an_error(self, token: str, body: bytes) -> None:
        answer = post(token, body)

        assert answer.status_code == 400
        assert answer.json()["code"]

    def test_bodies_over_a_mebibyte(self, token: str) -> None:
        assert post(token, b" " * (1024 * 1024 + 1)).status_code == 413

    def test_small_body_that_blows_up(self, token: str) -> None:
        bomb = gzip.compress(b" " * 50_000_000)

        assert post(token, bomb, **{"Content-Encoding": "gzip"}).status_code == 413

    @pytest.mark.parametrize(
        ("body", "encoding", "status"),
        [
            (b"not gzip", "gzip", 400),
            (gzip.compress(b"{}" * 50)[:-12], "gzip", 400),
            (b"{}", "br", 415),
        ],
        ids=["not gzip", "cut short", "brotli"],
    )
    def test_encodings_it_cannot_read(
        self, token: str, body: bytes, encoding: str, status: int
    ) -> None:
        assert post(token, body, **{"Content-Encoding": encoding}).status_code == status

    def test_another_service_than_the_tokens(self, token: str) -> None:
        assert post(token, make.report(service="inventory")).status_code == 404

    def test_no_service_at_all(self) -> None:
        answer = post(make.token()[1], make.report())

        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["service"])

    def test_service_that_is_no_name(self) -> None:
        assert post(make.token()[1], make.report(service="No Name")).status_code == 400

    def test_scope_is_required(self) -> None:
        _row, text = make.token(of=make.service(), scopes=["policies:read"])

        assert post(text, make.report()).status_code == 403

    def test_token_is_required(self) -> None:
        assert post("", make.report()).status_code == 401


class TestFull:
    @pytest.fixture(autouse=True)
    def full(self, token: str) -> None:
        """An ingest with room for nothing but acknowledgements, which knows the instance."""
        ingest.current = Ingest(full_bytes=0, limit_bytes=1_000_000)
        post(token, make.report(instance=INSTANCE))

    def test_routine_is_refused_with_a_time_to_come_back(self, token: str) -> None:
        answer = post(token, make.report(instance=INSTANCE, sequence=2))

        assert answer.status_code == 429
        assert answer["Retry-After"] == "5"

    def test_gate_refuses_in_the_same_words(self, token: str) -> None:
        body = make.report(instance=INSTANCE, sequence=2)
        service = Service.objects.get(slug="checkout")
        scopes = frozenset({"reports:write"})
        bearer = Key(0, "", "", service.environment_id, service.slug, scopes, None)
        gate = ReportsGate(_unasked, lambda authorization: bearer, lambda *told: None)
        headers = {"host": "localhost", "content-type": "application/json", "authorization": "x"}
        scope: dict[str, Any] = {"method": "POST", "path": "/api/v1/reports"}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]

        by_gate = gate.at_once(scope, json.dumps(body).encode())
        by_view = post(token, body)

        assert by_gate is not None
        status, said, content = by_gate
        assert (status, json.loads(content)) == (by_view.status_code, by_view.json())
        for name in ("Content-Type", "Retry-After"):
            assert said[name] == by_view.headers[name]

    @pytest.mark.parametrize(
        "news",
        [
            {"applied_revision": 8},
            {"epoch": INSTANCE},
            {"refused": [{"path": "flags.x", "revision": 8, "code": "out_of_range"}]},
            {"stopping": True},
            {"dependencies": {"payments-api": make.calls(breaker={"state": "open"})}},
            {"instance": "11111111-6d3c-4d55-9a0b-3f6e8e8f6a11"},
        ],
        ids=lambda news: next(iter(news)),
    )
    def test_acknowledgements_find_room(self, token: str, news: dict[str, Any]) -> None:
        body = make.report(instance=INSTANCE, sequence=2) | news

        assert post(token, body).status_code == 202

    def test_memory_is_bounded_all_the_same(self, token: str) -> None:
        ingest.current = Ingest(full_bytes=0, limit_bytes=10)

        assert post(token, make.report()).status_code == 429


async def _unasked(*_arguments: Any) -> None:
    raise AssertionError("the gate says it by itself")
