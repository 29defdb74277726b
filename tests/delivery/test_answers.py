"""One table of requests, answered by the pure function and through the documented view."""

import gzip
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.test import Client

from apps.accounts.models import ApiToken
from apps.core import clock
from apps.delivery.answers import Asked, answer, token_in
from apps.delivery.snapshot import Snapshot
from apps.delivery.state import State
from apps.fleet.models import Environment
from tests import make

NOW = datetime(2026, 11, 22, 14, 3, 7, tzinfo=UTC)
pytestmark = pytest.mark.django_db


@dataclass
class World:
    """An environment with a published flag, and one token of each kind."""

    environment: Environment
    known: State
    tokens: dict[str, str]

    @property
    def snapshot(self) -> Snapshot:
        assert self.known.snapshot is not None
        return self.known.snapshot

    @property
    def etag(self) -> str:
        return self.snapshot.places[self.environment.pk].document("checkout").etag

    def asked(
        self, method: str = "GET", service: str = "checkout", authorization: str = "", **more: Any
    ) -> Asked:
        token = token_in(authorization)
        return Asked(method, service, NOW, self.snapshot.reached_at, token=token, **more)


@pytest.fixture
def world(known: State) -> World:
    where = make.environment("production")
    checkout = make.service(where, "checkout")
    flag = make.flag_piece("read-only", value="x" * 5_000)
    make.publish(where, flag, make.use("checkout", "payments-api"))
    tokens = {
        "bound": make.token(of=checkout)[1],
        "free": make.token(where)[1],
        "scopeless": make.token(where, scopes=["reports:write"])[1],
        "other environment": make.token(make.environment("staging"))[1],
        "revoked": _ended(where, revoked_at=NOW),
        "expired": _ended(where, created_at=NOW - timedelta(2), expires_at=NOW - timedelta(1)),
        "wrong secret": make.token(where)[1][:-5] + "AAAAA",
        "unknown": "hf_" + "a" * 12 + "_" + "A" * 43,
        "malformed": "hf_nonsense",
    }
    known.refresh()
    return World(where, known, tokens)


def _ended(where: Environment, **values: Any) -> str:
    token, text = make.token(where)
    ApiToken.objects.filter(pk=token.pk).update(**values)
    return text


# token, service, headers (ETAG is replaced), status, members of the answer's headers
TABLE: list[tuple[str, str, dict[str, str], int, dict[str, str]]] = [
    ("bound", "checkout", {}, 200, {"Content-Type": "application/json"}),
    ("free", "checkout", {}, 200, {"Cache-Control": "private, no-cache"}),
    ("free", "never-configured", {}, 200, {"Content-Type": "application/json"}),
    ("bound", "search", {}, 404, {"Content-Type": "application/problem+json"}),
    ("free", "Not A Slug", {}, 404, {}),
    ("free", "nul\0", {}, 404, {}),
    ("free", "x" * 500, {}, 404, {}),
    ("other environment", "checkout", {}, 200, {}),
    ("scopeless", "checkout", {}, 403, {}),
    ("revoked", "checkout", {}, 401, {"WWW-Authenticate": 'Bearer realm="holdfast"'}),
    ("expired", "checkout", {}, 401, {}),
    ("wrong secret", "checkout", {}, 401, {}),
    ("unknown", "checkout", {}, 401, {}),
    ("malformed", "checkout", {}, 401, {}),
    ("bound", "checkout", {"If-None-Match": "ETAG"}, 304, {"Holdfast-Poll-Seconds": "10"}),
    ("bound", "checkout", {"If-None-Match": "W/ETAG"}, 304, {}),
    ("bound", "checkout", {"If-None-Match": '"a", W/"b" ,ETAG'}, 304, {}),
    ("bound", "checkout", {"If-None-Match": "*"}, 304, {}),
    ("bound", "checkout", {"If-None-Match": '"5f0c.1.0000"'}, 200, {}),
    ("bound", "checkout", {"If-None-Match": "not an etag"}, 200, {}),
    ("revoked", "checkout", {"If-None-Match": "*"}, 401, {}),
    ("bound", "checkout", {"Accept-Encoding": "gzip"}, 200, {"Content-Encoding": "gzip"}),
    ("bound", "checkout", {"Accept-Encoding": "br, *;q=0.1"}, 200, {"Content-Encoding": "gzip"}),
    ("bound", "checkout", {"Accept-Encoding": "gzip;q=0, *"}, 200, {}),
    ("bound", "checkout", {"Accept-Encoding": "identity"}, 200, {}),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("token", "service", "headers", "status", "expected"), TABLE)
def test_the_function_and_the_view_give_the_same_answer(
    world: World,
    client: Client,
    method: str,
    token: str,
    service: str,
    headers: dict[str, str],
    status: int,
    expected: dict[str, str],
) -> None:
    sent = {name: value.replace("ETAG", world.etag) for name, value in headers.items()}
    sent["Authorization"] = f"Bearer {world.tokens[token]}"
    members = {name.lower().replace("-", "_"): value for name, value in sent.items()}

    with clock.use(lambda: NOW):
        answered = answer(world.asked(method, service, **members), world.snapshot)
        path = f"/api/v1/policies/{service}".replace("\0", "%00")
        seen = client.generic(method, path, headers=sent)

    assert answered[0] == status
    assert expected.items() <= answered[1].items()
    assert (seen.status_code, seen.content) == (answered[0], answered[2])
    assert {name: _own_part(seen.headers[name], name) for name in answered[1]} == answered[1]


def _own_part(value: str, name: str) -> str:
    """Without what Django's middlewares append to Vary."""
    return value.removesuffix(", Accept-Language") if name == "Vary" else value


class TestAnswer:
    def test_hints_and_etag_come_with_200_and_304_alike(self, world: World) -> None:
        asked = world.asked(authorization=f"Bearer {world.tokens['bound']}")

        _status, full, _body = answer(asked, world.snapshot)
        _status, short, _body = answer(replace(asked, if_none_match=world.etag), world.snapshot)

        hints = {
            "Holdfast-Poll-Seconds": "10",
            "Holdfast-Report-Seconds": "5",
            "Holdfast-Jitter": "0.2",
            "Date": "Sun, 22 Nov 2026 14:03:07 GMT",
            "ETag": world.etag,
        }
        assert hints.items() <= full.items()
        assert hints.items() <= short.items()

    def test_head_says_what_get_would_send(self, world: World) -> None:
        asked = world.asked(authorization=f"Bearer {world.tokens['bound']}")

        status, headers, body = answer(asked, world.snapshot)
        head = answer(replace(asked, method="HEAD"), world.snapshot)

        assert head == (status, headers, b"")
        assert headers["Content-Length"] == str(len(body))

    def test_gzip_holds_the_same_body(self, world: World) -> None:
        asked = world.asked(authorization=f"Bearer {world.tokens['bound']}")

        plain = answer(asked, world.snapshot)[2]
        packed = answer(replace(asked, accept_encoding="gzip"), world.snapshot)[2]

        assert gzip.decompress(packed) == plain

    def test_a_server_that_is_starting_says_503_and_never_401(self, world: World) -> None:
        asked = world.asked(authorization="Bearer hf_nonsense")

        status, headers, _body = answer(asked, None)

        assert (status, headers["Retry-After"]) == (503, "2")

    @pytest.mark.parametrize(("age", "stale"), [(4.9, None), (5.4, "5"), (61.0, "61")])
    def test_an_unreachable_database_shows_as_the_age_of_the_policy(
        self, world: World, age: float, stale: str | None
    ) -> None:
        asked = world.asked(authorization=f"Bearer {world.tokens['bound']}")
        later = replace(asked, monotonic=world.snapshot.reached_at + age)

        status, headers, _body = answer(later, world.snapshot)

        assert (status, headers.get("Policy-Stale")) == (200, stale)

    def test_after_a_day_without_the_database_no_token_is_believed(self, world: World) -> None:
        asked = world.asked(authorization=f"Bearer {world.tokens['bound']}")
        later = replace(asked, monotonic=world.snapshot.reached_at + 86_401)

        assert answer(later, world.snapshot)[0] == 503

    def test_a_token_ends_by_itself_without_a_look_at_the_database(self, world: World) -> None:
        token, text = make.token(world.environment)
        ApiToken.objects.filter(pk=token.pk).update(expires_at=clock.now() + timedelta(hours=1))
        world.known.hear("tokens")
        world.known.refresh()
        asked = replace(world.asked(authorization=f"Bearer {text}"), now=clock.now())
        after = replace(asked, now=clock.now() + timedelta(minutes=61))

        statuses = [answer(each, world.snapshot)[0] for each in (asked, after)]

        assert statuses == [200, 401]

    def test_naming_another_environment_is_404(self, world: World) -> None:
        asked = world.asked(authorization=f"Bearer {world.tokens['free']}")

        named = [
            answer(replace(asked, environment=slug), world.snapshot)[0]
            for slug in ("production", "staging")
        ]

        assert named == [200, 404]

    def test_other_methods_are_405(self, world: World) -> None:
        status, headers, _body = answer(world.asked("POST"), world.snapshot)

        assert (status, headers["Allow"]) == (405, "GET, HEAD")

    def test_a_refusal_never_repeats_the_token(self, world: World) -> None:
        asked = world.asked(authorization=f"Bearer {world.tokens['revoked']}")

        _status, headers, body = answer(asked, world.snapshot)

        assert msgspec.json.decode(body)["code"] == "authentication_failed"
        assert world.tokens["revoked"] not in f"{headers} {body!r}"


def test_repr_of_what_is_held_shows_no_secret(world: World) -> None:
    secret = world.tokens["bound"].rpartition("_")[2]

    assert secret not in repr(world.snapshot.keys)
    assert time.monotonic() >= world.snapshot.reached_at
