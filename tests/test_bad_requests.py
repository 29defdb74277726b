"""Whatever a request is: a wrong method, no token, a senseless address, parameter or header.

The routes come from the URL resolver, so a new one is held to this from its first day.
"""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from django.http import HttpResponse
from django.test import Client

from tests.doors import (
    PROBLEM,
    Doors,
    everything,
    kind_of,
    kinds,
    open_doors,
    opened_anew,
    problems,
    spread,
)
from tests.routes import Route, api_routes

pytestmark = pytest.mark.unmeasured
ROUTES = api_routes()
READS = [route for route in ROUTES if "GET" in route.methods]
OPEN = {"docs", "schema", "schema/policy.json", "health/live", "health/ready"}
SYSTEM = Route("environments", ("GET",))  # by a person's session
HEALTH = {route.pattern for route in ROUTES if route.pattern.split("/")[0] == "health"}
ANY_ACCEPT = {"policies/<str:service>", *HEALTH}
METHODS = ("GET", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "INVENTED")
CURSORS = [  # as `next` has them before it is packed, with positions no column holds
    *("p=", "p=abc", "p=\0", "p=" + "9" * 30, "p=" + "9" * 5_000, "p=NaN", "p=-1e999", "p=%ff"),
    *("p=0001-01-01T00:00:00%2B14:00", "p=9999-12-31T23:59:59-14:00", "p=2026-02-31", "p=%00"),
    *("o=-1", "o=abc", "o=" + "9" * 5_000, "r=2&o=1&p=x", "r=" + "9" * 5_000, "p[]=1", "&&&"),
]
SENSELESS = [  # in place of a key
    *("0", "-1", "9" * 18, "9" * 19, "9" * 20, "9" * 5_000, "1.0", "1e3", "null", "~"),
    *("%00", "a%00", "%ff", "%0a", "1%0a", "%20", "a" * 8_000, "%d9%a1", "%f0%9f%98%80"),
    "00000000-0000-0000-0000-000000000000",
]
KEYED = [  # but for the one that answers for services nobody made
    (route, method)
    for route in ROUTES
    if route.parameters and route.pattern != "policies/<str:service>"
    for method in route.methods
    if method not in {"HEAD", "OPTIONS"}
]
ACCEPTED = ["", ",", ";;;", "*", "*/*;q=x", "\xe9", "a/b" * 9_999]
HOSTS = ["evil.example", "", "[", "a b", "x" * 9_999, "\xe9"]
CLOSED = [
    (route, method)
    for route in ROUTES
    if route.pattern not in OPEN
    for method in route.methods
    if method != "HEAD"
]
NOBODY = {
    "none": "",
    "empty": "Bearer",
    "short": "Bearer x",
    "basic": "Basic eDp4",
    "huge": "Bearer hf_" + "a" * 100_000,
    "latin-1": "Bearer h\xe9",
    "blank": "\t",
    "NUL": "Bearer hf_\0",
}


@pytest.fixture(scope="module")
def opened(shared_rows: None) -> Doors:
    return open_doors()


@pytest.fixture
def doors(opened: Doors, db: None, monkeypatch: pytest.MonkeyPatch) -> Doors:
    return opened_anew(opened, monkeypatch)


@pytest.fixture(scope="module")
def lists(opened: Doors) -> list[Route]:
    """Those that come in pages, but for the presets, which are always one."""
    others = OPEN | {"metrics", "presets"}
    single = [route for route in READS if not route.parameters and route.pattern not in others]
    return [route for route in single if b'"next":' in opened.send(route, "GET").content]


def asked_of(lists: list[Route], doors: Doors, query: str) -> dict[str, HttpResponse]:
    return {
        str(route): doors.send(route, "GET", path=f"{doors.path(route)}?{query}") for route in lists
    }


@pytest.mark.one_database
class TestMethods:
    def test_a_method_the_route_has_not_is_a_405_that_names_those_it_has(
        self, doors: Doors
    ) -> None:
        answers = {
            f"{method} {route}": doors.send(route, method, content=b"{}")
            for route in ROUTES
            for method in METHODS
            if method not in route.methods
        }

        assert kinds(answers) == problems(answers, 405)
        assert {name: sorted(answer["Allow"].split(", ")) for name, answer in answers.items()} == {
            f"{method} {route}": sorted(route.allowed)
            for route in ROUTES
            for method in METHODS
            if method not in route.methods
        }

    def test_head_is_get_without_its_body(self, doors: Doors) -> None:
        answers = {route: doors.send(route, "HEAD") for route in READS}

        assert {route: answer.status_code for route, answer in answers.items()} == {
            route: doors.send(route, "GET").status_code for route in READS
        }
        assert {answer.content for answer in answers.values()} == {b""}

    def test_options_says_what_may_be_done(self, doors: Doors) -> None:
        answers = [doors.send(route, "OPTIONS") for route in ROUTES if "OPTIONS" in route.methods]

        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.one_database
class TestWhoAsks:
    @pytest.mark.parametrize("authorization", NOBODY.values(), ids=NOBODY.keys())
    def test_without_a_good_token_every_closed_route_is_401(
        self, doors: Doors, authorization: str
    ) -> None:
        before = everything()

        answers = {
            f"{method} {route}": doors.send_as(authorization, route, method)
            for route, method in spread(list(NOBODY.values()).index(authorization), 2, CLOSED)
        }

        assert kinds(answers) == problems(answers, 401)
        assert all(answer["WWW-Authenticate"].startswith("Bearer") for answer in answers.values())
        assert everything() == before

    def test_a_cookie_of_nonsense_is_nobody(self, doors: Doors) -> None:
        """PostgreSQL would answer a NUL in a session's key with an error."""
        route = ROUTES[0]

        answer = Client().get(
            doors.path(route),
            headers={
                "Cookie": r'sessionid="\000\000\000\000\000\000\000\000"; csrftoken="\377"; =;;'
            },
        )

        assert answer.status_code == 401

    def test_an_environment_nobody_has_is_404(self, doors: Doors) -> None:
        names = ["nowhere", "", "%00", "%ff", "a" * 10_000, "x%0a"]

        answers = {
            name: doors.send(SYSTEM, "GET", path=f"/api/v1/services?environment={name}")
            for name in names
        }

        assert kinds(answers) == problems(names, 404)


@pytest.mark.one_database
class TestAddresses:
    @pytest.mark.parametrize("name", ["%00", "%ff", "checkout%0a", "A", "a" * 81, "%2e%2e", "%20"])
    def test_what_cannot_be_a_service_has_no_policy(self, doors: Doors, name: str) -> None:
        policy = Route("policies/<str:service>", ("GET",))

        answer = doors.send(policy, "GET", path=f"/api/v1/policies/{name}")

        assert kind_of(answer) == (404, PROBLEM, 404)

    def test_a_slash_at_the_end_changes_nothing(self, doors: Doors) -> None:
        methods = ("GET", "POST", "DELETE")
        asked = [(route, methods[number % 3]) for number, route in enumerate(ROUTES)]

        plain = [doors.send(*ask, content=b"{}").status_code for ask in asked]
        slashed = [
            doors.send(*ask, content=b"{}", path=f"{doors.path(ask[0])}/").status_code
            for ask in asked
        ]

        assert slashed == plain

    @pytest.mark.parametrize("value", SENSELESS, ids=lambda value: value[:40])
    def test_a_senseless_address_finds_nothing(self, doors: Doors, value: str) -> None:
        before = everything()

        answers = {
            f"{method} {route}": doors.send(
                route,
                method,
                content=doors.sound_body(route),
                path=route.path({name: value for _converter, name in route.parameters}),
                **{"If-Match": '"1"'},
            )
            for route, method in spread(SENSELESS.index(value), 3, KEYED)
        }

        assert {name: answer.status_code for name, answer in answers.items()} == (
            dict.fromkeys(answers, 404)
        )
        assert everything() == before


class TestParameters:
    @pytest.mark.parametrize(
        "query",
        [
            *("limit=0", "limit=-1", "limit=201", "limit=abc", "limit=1.5", "limit=", "limit=%00"),
            *("limit=" + "9" * 5_000, "limit=%d9%a1", "limit=1&limit=x"),
            *("cursor=garbage", "cursor=%00", "cursor=%ff", "cursor=" + "A" * 8_000),
            *("no_such_filter=1", "%00=1", "%ff=%ff", "=", "limit[]=1"),
        ],
        ids=lambda query: query[:40],
    )
    def test_a_senseless_page_is_refused_by_every_list(
        self, doors: Doors, lists: list[Route], query: str
    ) -> None:
        answers = asked_of(lists, doors, query)

        assert kinds(answers) == problems(answers, 400)

    @pytest.mark.parametrize("cursor", CURSORS)
    def test_a_cursor_nobody_gave_breaks_no_list(
        self, doors: Doors, lists: list[Route], cursor: str
    ) -> None:
        encoded = quote(base64.b64encode(cursor.encode()))

        some = list(spread(CURSORS.index(cursor), 3, lists))
        answers = asked_of(some, doors, f"cursor={encoded}")

        assert {answer.status_code for answer in answers.values()} <= {200, 400}

    def test_a_limit_out_of_bounds_is_told_the_range(self, doors: Doors) -> None:
        answer = doors.client.get(
            "/api/v1/flags?limit=201", headers={"Authorization": f"Bearer {doors.token}"}
        )

        assert json.loads(answer.content)["errors"] == {"limit": ["Must be from 1 to 200."]}


@pytest.mark.one_database
class TestHeaders:
    @pytest.mark.parametrize(
        "version", ["1", "*", '"x"', '"-1"', '"' + "9" * 5_000 + '"', '"1", "2"', "\xe9", '"1"\t"']
    )
    def test_an_if_match_that_is_no_etag_is_400(self, doors: Doors, version: str) -> None:
        before = everything()

        answers = {
            f"{method} {route}": doors.send(
                route, method, content=doors.sound_body(route), **{"If-Match": version}
            )
            for route in ROUTES
            for method in {*route.methods} & {"PUT", "PATCH", "DELETE"}
        }

        assert kinds(answers) == problems(answers, 400)
        assert everything() == before

    def test_a_change_without_if_match_is_428(self, doors: Doors) -> None:
        answers = {
            f"{method} {route}": doors.send(route, method, content=doors.sound_body(route))
            for route in ROUTES
            for method in {*route.methods} & {"PUT", "PATCH", "DELETE"}
        }

        assert kinds(answers) == problems(answers, 428)

    @pytest.mark.parametrize("accepted", ["application/xml", "text/plain;q=1", "image/*"])
    def test_what_nothing_can_answer_with_is_406(self, doors: Doors, accepted: str) -> None:
        routes = {route for route in READS if route.pattern not in ANY_ACCEPT}
        if accepted.startswith("text/plain"):  # what Prometheus asks for
            routes = {route for route in routes if route.pattern != "metrics"}

        answers = {str(route): doors.send(route, "GET", Accept=accepted) for route in routes}

        assert kinds(answers) == problems(answers, 406)

    @pytest.mark.parametrize("accepted", ACCEPTED, ids=range(len(ACCEPTED)))
    def test_a_senseless_accept_breaks_nothing(self, doors: Doors, accepted: str) -> None:
        some = spread(ACCEPTED.index(accepted), 3, READS)
        answers = [doors.send(route, "GET", Accept=accepted) for route in some]

        assert {answer.status_code for answer in answers} <= {200, 406}

    @pytest.mark.parametrize("host", HOSTS, ids=range(len(HOSTS)))
    def test_a_host_that_is_not_ours_breaks_nothing(self, doors: Doors, host: str) -> None:
        services = next(route for route in READS if route.pattern == "services")
        some = {services, *spread(HOSTS.index(host), 3, READS)}
        answers = {str(route): doors.send(route, "GET", Host=host) for route in some}

        refused = {name: answer for name, answer in answers.items() if answer.status_code != 200}
        assert "services" in refused  # its `next` would lead there
        assert kinds(refused) == problems(refused, 400)

    def test_odd_languages_and_encodings_break_nothing(self, doors: Doors) -> None:
        odd: dict[str, Any] = {
            "Accept-Language": "x" * 600 + ",\xe9;q=9,-,*;q=",
            "Accept-Encoding": "gzip;q=x,,*;q=,\xe9",
            "If-None-Match": '"\xe9,,',
            "If-Modified-Since": "never",
            "Range": "bytes=9-1",
            "X-Request-ID": "\xe9" * 500,
        }

        answers = [doors.send(route, "GET", **odd) for route in READS]

        assert {answer.status_code for answer in answers} == {200}
