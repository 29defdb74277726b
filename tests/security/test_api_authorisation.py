"""Who may do what over the API, for every route the URL resolver knows.

The tables below say it in words of their own, not in those of the views: a route whose first word
is in none of them fails here from its first day.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from django.apps import apps
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from apps.accounts.models import Membership
from apps.audit.models import Entry
from apps.core.permissions import Refuse
from apps.degradation.models import Flag
from apps.fleet.models import Environment, Service
from tests import make
from tests.routes import Route, Rows, api_routes, rows_of_each_kind

pytestmark = [pytest.mark.django_db, pytest.mark.one_database, pytest.mark.unmeasured]
ROUTES = api_routes()
WRITES = {"POST", "PUT", "PATCH", "DELETE"}
ROLES = ("viewer", "operator", "administrator", "superuser")
# Who changes something at the routes that begin with this word.
LEAST_ROLE = {
    "checks": "operator",
    "alert-actions": "operator",
    "alert-rules": "operator",
    "alert-settings": "operator",
    "alerts": "operator",
    "channels": "operator",
    "configs": "operator",
    "dead-letter-groups": "operator",
    "dead-letters": "operator",
    "dependencies": "operator",
    "environments": "superuser",
    "flags": "operator",
    "markers": "operator",
    "overrides": "operator",
    "presets": "operator",
    "redrives": "operator",
    "reports": "superuser",  # machines do, with tokens
    "revisions": "operator",
    "services": "operator",
    "silences": "operator",
    "tokens": "administrator",
}
# Machines do these, with tokens.
PING = "checks/<int:check_id>/ping"
MACHINES = {"dead-letters/capture", "redrives/claim", "redrives/outcomes", PING}
READ_BY_ADMINISTRATORS = {"tokens"}
READ_BY_OPERATORS = {"dead-letters/<int:letter_id>/content"}
# Without a login; `policies` looks at its token itself, see tests/delivery.
OPEN = {
    *("docs", "schema", "schema/policy.json", "health/live", "health/ready"),
    "policies/<str:service>",
}
# A body that would be accepted, by the route's last word, or by its first.
BODIES: dict[str, dict[str, Any]] = {
    "alert-actions": {"lease_seconds": 60},
    "alert-rules": {"severity": "info"},
    "alert-settings": {"frozen": True, "reason": "x"},
    "channels": {"wants_ends": True},
    "engage": {"reason": "x"},
    "restore": {},
    "extend": {"lease_seconds": 3600},
    "end": {"reason": "x"},
    "revoke": {"reason": "x"},
    "rollback": {"reason": "x"},
    "acknowledge": {"reason": "x"},
    "discard": {"reason": "x"},
    "pause": {"reason": "x"},
    "resume": {"reason": "x"},
    "flags": {"on_stale": "revert"},
    "markers": {"title": "x"},
    "plan": {},
    "ping": {"exit_code": 0},
    "checks": {"interval_seconds": 60},
    "test": {},
    "services": {"owner": "mallory"},
    "dependencies": {"description": "mallory"},
    "environments": {"name": "Mallory"},
    "configs": {"settings": {}, "reason": "x"},
}


def least_role(pattern: str) -> str:
    """Who changes something at this route."""
    return "superuser" if pattern in MACHINES else LEAST_ROLE[pattern.split("/")[0]]


def words(route: Route) -> list[str]:
    return route.pattern.split("/")


def body_for(route: Route) -> dict[str, Any]:
    first, last = words(route)[0], words(route)[-1]
    if (first, last) == ("alerts", "acknowledge"):
        return {"note": "x"}
    return BODIES.get(last, BODIES.get(first, {}))


def views() -> Iterator[tuple[str, Any]]:
    (api,) = (found for found in get_resolver().url_patterns if str(found.pattern) == "api/v1/")
    assert isinstance(api, URLResolver)
    for found in api.url_patterns:
        inner = found.url_patterns if isinstance(found, URLResolver) else [found]
        for route in inner:
            assert isinstance(route, URLPattern)
            yield str(route.pattern), route.callback.view_class  # type: ignore[attr-defined]


def address(route: Route, rows: Rows) -> str:
    names = [name for _converter, name in route.parameters]
    return route.path(rows.found_by(route.pattern, names))


def send(client: Client, method: str, path: str, body: Any = None) -> HttpResponse:
    headers = {"If-Match": '"1"'}
    return client.generic(  # type: ignore[return-value]  # a test client's answer is one
        method, path, _json(body), "application/json", headers=headers
    )


def _json(body: Any) -> bytes:
    return b"" if body is None else msgspec.json.encode(body)


def bearer(text: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {text}"})


def everything() -> dict[str, list[str]]:
    """Every row but of the audit log, which records refusals, and of sessions."""
    kept = [each for each in apps.get_models() if each._meta.app_label not in {"audit", "sessions"}]
    return {
        model._meta.label: sorted(map(repr, model._default_manager.values_list())) for model in kept
    }


class TestEveryView:
    def test_names_a_scope(self) -> None:
        scopes = {
            pattern: [getattr(each, "required", None) for each in view.permission_classes]
            for pattern, view in views()
            if pattern not in OPEN
        }

        assert scopes
        assert [pattern for pattern, named in scopes.items() if None in named or not named] == []

    def test_that_names_none_lets_nobody_in(self) -> None:
        assert not Refuse().has_permission(None, None)  # type: ignore[arg-type]  # looks at neither

    def test_is_in_the_tables(self) -> None:
        changing = {words(route)[0] for route in ROUTES if WRITES & set(route.methods)}

        assert changing == LEAST_ROLE.keys()

    def test_asks_strangers_for_a_login(self) -> None:
        rows = rows_of_each_kind(make.environment())
        closed = [route for route in ROUTES if route.pattern not in OPEN]
        stranger = Client()

        statuses = {
            f"{method} {route}": send(stranger, method, address(route, rows), {}).status_code
            for route in closed
            for method in set(route.methods) - {"OPTIONS"}
        }

        assert statuses == dict.fromkeys(statuses, 401)


@pytest.mark.parametrize("role", ROLES)
class TestRoles:
    def browser(self, role: str, where: Environment) -> Client:
        if role == "superuser":
            return make.browser()
        return make.browser(make.member(where, role))

    def test_only_those_who_may_change_get_past_the_door(self, role: str) -> None:
        here = make.environment()
        rows, browser = rows_of_each_kind(here), self.browser(role, here)

        let_in = {
            f"{method} {route}": send(
                browser, method, f"{address(route, rows)}?environment={here}", {"nothing": 1}
            ).status_code
            != 403
            for route in ROUTES
            for method in set(route.methods) - {"OPTIONS"}
            if method in WRITES
        }

        assert let_in == {
            name: ROLES.index(role) >= ROLES.index(least_role(name.split()[1])) for name in let_in
        }

    def test_everybody_reads_but_of_tokens(self, role: str) -> None:
        here = make.environment()
        rows, browser = rows_of_each_kind(here), self.browser(role, here)

        read = {
            route.pattern: send(
                browser, "GET", f"{address(route, rows)}?environment={here}"
            ).status_code
            for route in ROUTES
            if "GET" in route.methods and route.pattern not in OPEN
        }

        closed = {"viewer": READ_BY_OPERATORS | READ_BY_ADMINISTRATORS} | {
            "operator": READ_BY_ADMINISTRATORS
        }
        assert read == {
            name: 403 if {name, name.split("/")[0]} & closed.get(role, set()) else 200
            for name in read
        }


class TestAnotherEnvironment:
    """A token of one environment, and the addresses of rows of another."""

    @pytest.fixture
    def elsewhere(self) -> Rows:
        return rows_of_each_kind(make.environment("elsewhere"))

    def addressed(self) -> list[Route]:
        """Routes that lead to a row; a document is made for any name, of the token's own."""
        kept = {
            "policies/<str:service>",
            "presets/<str:name>/apply",
            "presets/<str:name>/plan",
        }
        return [route for route in ROUTES if route.parameters and route.pattern not in kept]

    @pytest.mark.parametrize("kind", ["token", "session"])
    def test_its_rows_are_not_there(self, elsewhere: Rows, kind: str) -> None:
        here = make.environment()
        client = (
            bearer(make.token(here)[1])
            if kind == "token"
            else make.browser(make.member(here, "administrator"))
        )
        send(client, "GET", "/api/v1/flags")  # a token's first use is written down
        before = everything()

        answers = {
            f"{method} {route}": send(client, method, address(route, elsewhere), body_for(route))
            for route in self.addressed()
            for method in set(route.methods) - {"OPTIONS"}
        }

        closed = {f"{method} environments/<int:environment_id>" for method in WRITES}
        if kind == "session":
            closed.add(f"POST {PING}")
        assert {name: answer.status_code for name, answer in answers.items()} == {
            name: 403 if name in closed else 404 for name in answers
        }
        assert [name for name, answer in answers.items() if b"elsewhere" in answer.content] == []
        assert everything() == before

    def test_lists_do_not_name_them(self, elsewhere: Rows) -> None:
        api = bearer(make.token()[1])

        told = [
            route.pattern
            for route in ROUTES
            if "GET" in route.methods and not route.parameters and route.pattern not in OPEN
            for content in [send(api, "GET", f"/api/v1/{route}").content.decode()]
            if '"elsewhere"' in content or f'"{elsewhere.ids["service"]}"' in content
        ]

        assert told == []

    @pytest.mark.parametrize("role", ["viewer", "administrator"])
    def test_cannot_be_named_in_a_query(self, elsewhere: Rows, role: str) -> None:
        browser = make.browser(make.member(role=role))

        statuses = {
            route.pattern: send(browser, "GET", f"/api/v1/{route}?environment=elsewhere")
            for route in ROUTES
            if "GET" in route.methods and not route.parameters and route.pattern not in OPEN
        }

        assert {answer.status_code for answer in statuses.values()} == {404}

    @pytest.mark.parametrize(
        ("address", "body"),
        [
            ("flags", {"key": "a", "kind": "read_only", "service": "theirs"}),
            ("flags", {"key": "a", "kind": "fallback", "dependencies": ["their-database"]}),
            ("overrides", {"dependency": "their-database", "mode": "force_open", "reason": "x"}),
            ("configs/retry", {"dependency": "their-database", "settings": {"attempts": 2}}),
            ("configs/retry/plan", {"dependency": "their-database", "settings": {"attempts": 2}}),
            ("presets/alpaca/apply", {"dependency": "their-database"}),
            ("tokens", {"name": "x", "scopes": ["config:read"], "service": "theirs"}),
        ],
    )
    def test_its_names_mean_nothing_in_a_body(self, address: str, body: dict[str, Any]) -> None:
        elsewhere = make.environment("elsewhere")
        make.service(elsewhere, "theirs")
        make.dependency(elsewhere, "their-database")

        answer = send(bearer(make.token()[1]), "POST", f"/api/v1/{address}", body)

        assert answer.status_code in {400, 404}
        assert b"elsewhere" not in answer.content


class TestWhichEnvironment:
    """`?environment=` says which; what could be understood in two ways is refused."""

    FLAG = {"key": "a", "kind": "read_only"}

    def test_a_token_is_not_taken_elsewhere(self) -> None:
        here, staging = make.environment(), make.environment("staging")
        api = bearer(make.token(here)[1])

        answers = [
            send(api, "GET", "/api/v1/flags?environment=staging"),
            send(api, "POST", "/api/v1/flags?environment=staging", self.FLAG),
        ]

        assert [answer.status_code for answer in answers] == [404, 404]
        assert Flag.objects.count() == 0
        assert staging.slug not in answers[0].content.decode()

    def test_a_token_may_name_its_own(self) -> None:
        here = make.environment()
        api = bearer(make.token(here)[1])

        assert send(api, "GET", f"/api/v1/flags?environment={here}").status_code == 200

    @pytest.mark.parametrize("kind", ["token", "session"])
    def test_two_are_refused(self, kind: str) -> None:
        here, there = make.environment(), make.environment()
        person = make.member(here)
        Membership.objects.create(user=person, environment=there, role="operator")
        client = bearer(make.token(here)[1]) if kind == "token" else make.browser(person)

        answer = send(
            client, "POST", f"/api/v1/flags?environment={there}&environment={here}", self.FLAG
        )

        assert answer.status_code == 400
        assert Flag.objects.count() == 0

    def test_without_one_people_may_do_what_they_may_everywhere(self) -> None:
        here, there = make.environment(), make.environment()
        mine, theirs = make.flag(here), make.flag(there)
        person = make.member(here, "operator")
        Membership.objects.create(user=person, environment=there, role="viewer")
        browser = make.browser(person)

        statuses = {
            flag.environment: send(
                browser, "POST", f"/api/v1/flags/{flag.pk}/engage", {"reason": "x"}
            ).status_code
            for flag in (mine, theirs)
        }
        listed = send(browser, "GET", "/api/v1/flags")

        assert statuses == {here: 403, there: 403}
        assert len(listed.json()["results"]) == 2  # type: ignore[attr-defined]  # a client's answer

    def test_an_operator_here_is_a_viewer_there(self) -> None:
        here, there = make.environment(), make.environment()
        flag = make.flag(there)
        person = make.member(here, "operator")
        Membership.objects.create(user=person, environment=there, role="viewer")
        browser = make.browser(person)
        engage = f"/api/v1/flags/{flag.pk}/engage"

        through_here = send(browser, "POST", f"{engage}?environment={here}", {"reason": "x"})
        through_there = send(browser, "POST", f"{engage}?environment={there}", {"reason": "x"})

        assert (through_here.status_code, through_there.status_code) == (404, 403)


class TestServicesOwnTokens:
    """A token that is bound to one service, with every scope there is."""

    @pytest.fixture
    def place(self) -> Environment:
        return make.environment()

    def test_others_rows_are_not_there(self, place: Environment) -> None:
        mine = make.service(place, "mine")
        rows = rows_of_each_kind(place)  # of another service
        api = make.client(of=mine)
        routes = [
            *("services/<int:service_id>", "instances/<uuid:instance_id>"),
            *("overrides/<int:override_id>", "configs/retry/<int:config_id>"),
            *("tokens/<int:token_id>", "effective/<str:service>", "audit/<uuid:entry_id>"),
        ]

        statuses = {
            route.pattern: api.get(address(route, rows)).status_code
            for route in ROUTES
            if route.pattern in routes
        }

        assert statuses == dict.fromkeys(routes, 404)

    def test_others_are_not_named_in_what_it_reads(self, place: Environment) -> None:
        mine = make.service(place, "mine")
        rows = rows_of_each_kind(place)
        make.engaged(place, "everywhere")
        make.engaged(place, "theirs", of=make.service(place, "the-others"))
        api = make.client(of=mine)
        flag = Flag.objects.get(key="everywhere")

        told = {
            address: api.get(f"/api/v1/{address}").content.decode()
            for address in [
                *(route.pattern for route in ROUTES if not route.parameters),
                *(f"flags/{flag.pk}/impact", "flags/impact"),
            ]
            if address not in OPEN
        }

        others = ("the-others", rows.ids["service"])
        assert [
            name for name, text in told.items() for other in others if f'"{other}"' in text
        ] == []

    def test_it_changes_nothing_that_reaches_others(self, place: Environment) -> None:
        mine = make.service(place, "mine")
        rows_of_each_kind(place)
        shared = make.flag(place, "shared")
        database = make.dependency(place, "database")
        of_all = make.config("retry", make.scope(place, database))
        api = make.client(of=mine)
        before = everything()

        answers = {
            f"{method} {address}": api.generic(
                method,
                f"/api/v1/{address}",
                _json(body).decode(),
                "application/json",
                HTTP_IF_MATCH='"1"',
            ).status_code
            for method, address, body in (
                ("POST", "flags", {"key": "new", "kind": "read_only"}),
                ("PATCH", f"flags/{shared.pk}", {"on_stale": "revert"}),
                ("POST", f"flags/{shared.pk}/engage", {"reason": "x"}),
                ("DELETE", f"flags/{shared.pk}", None),
                ("POST", "configs/retry", {"settings": {"attempts": 2}}),
                ("POST", "configs/retry/plan", {"settings": {"attempts": 2}}),
                ("PATCH", f"configs/retry/{of_all.pk}", {"settings": {"attempts": 2}}),
                ("DELETE", f"configs/retry/{of_all.pk}", None),
                (
                    "POST",
                    "overrides",
                    {"dependency": "database", "mode": "force_open", "reason": "x"},
                ),
                ("POST", "presets/alpaca/apply", {"dependency": "database"}),
                ("POST", "presets/alpaca/plan", {"dependency": "database"}),
                ("POST", "revisions/1/rollback", {"reason": "x"}),
                ("POST", "revisions/1/rollback/plan", None),
                ("POST", "services", {"slug": "another"}),
                ("POST", "dependencies", {"slug": "another"}),
                ("PATCH", f"dependencies/{database.pk}", {"description": "mallory"}),
                ("POST", "tokens", {"name": "x", "scopes": ["config:read"]}),
            )
        }

        assert answers == dict.fromkeys(answers, 403)
        ignored = {"accounts.ApiToken"}  # when it was used last
        after = everything()
        assert {name: after[name] for name in after if name not in ignored} == {
            name: before[name] for name in before if name not in ignored
        }

    def test_it_reports_for_itself_only(self, place: Environment) -> None:
        mine, other = make.service(place, "mine"), make.service(place, "other")
        api = make.client(of=mine)

        statuses = [
            api.post("/api/v1/reports", make.report(service=service)).status_code
            for service in (other.slug, "unheard-of", mine.slug)
        ]

        assert statuses == [404, 404, 202]
        assert not Service.objects.filter(slug="unheard-of").exists()

    def test_it_sees_nothing_of_the_audit_log(self, place: Environment) -> None:
        api = make.client(of=make.service(place))
        assert Entry.objects.exists()

        entries = api.get("/api/v1/audit").json()["results"]
        chains = api.get("/api/v1/audit/verify").json()["chains"]

        assert (entries, chains) == ([], [])
