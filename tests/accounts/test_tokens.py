"""Tokens: made once, shown once, kept as a hash, and worth no more than their maker."""

import re
from dataclasses import replace
from datetime import timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from rest_framework.test import APIClient

from apps.accounts import rules, selectors, services
from apps.accounts.models import ApiToken
from apps.accounts.uses import Uses
from apps.audit.models import Entry
from apps.core import clock
from apps.core.actor import SCOPES
from apps.core.errors import Conflict, Forbidden, RuleBroken, Stale
from apps.fleet.models import Environment, Service
from tests import make

TOKENS = "/api/v1/tokens"
FORM = re.compile(r"^hf_[a-z0-9]{12}_[A-Za-z0-9]{43}$")


def with_token(text: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


@pytest.mark.django_db
class TestForm:
    def test_is_as_documented(self) -> None:
        _row, text = make.token()

        assert FORM.fullmatch(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "hf_",
            "hf_abcdefghijkl_" + "a" * 42,
            "hf_abcdefghijkl_" + "a" * 44,
            "hf_ABCDEFGHIJKL_" + "a" * 43,
            "hf_abcdefghijkl_" + "ä" * 43,
            "hf_abcdefghijkl_" + "a" * 43 + "\n",
            "Basic x",
        ],
    )
    def test_anything_else_is_none(self, text: str) -> None:
        assert rules.split_token(text) is None

    def test_the_secret_is_nowhere_in_the_database(self) -> None:
        _row, text = make.token()
        secret = text.rsplit("_", 1)[1]

        assert secret not in everything_stored()

    def test_the_secret_is_in_no_repr(self) -> None:
        row, text = make.token()
        secret = text.rsplit("_", 1)[1]

        assert secret not in f"{row!r} {row} {row.as_audited()}"

    def test_the_secret_is_in_no_log(self, caplog: pytest.LogCaptureFixture) -> None:
        _row, text = make.token()

        with_token(text).get("/api/v1/flags")
        with_token(text + "x").get("/api/v1/flags")

        said = " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
        assert "/api/v1/flags" in said
        assert text.rsplit("_", 1)[1] not in said


def everything_stored() -> str:
    """Every value of every table, as text."""
    values: list[str] = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            values += [str(value) for row in cursor.fetchall() for value in row]
    return "\n".join(values)


@pytest.mark.django_db
class TestWhatItOpens:
    def test_a_live_token_opens(self) -> None:
        _row, text = make.token()

        assert with_token(text).get("/api/v1/flags").status_code == 200

    @pytest.mark.parametrize("last", ["A", "b"])
    def test_a_wrong_secret_is_401(self, last: str) -> None:
        _row, text = make.token()
        wrong = text[:-1] + ("c" if text[-1] == last else last)

        assert with_token(wrong).get("/api/v1/flags").status_code == 401

    def test_an_expired_token_is_401(self) -> None:
        place = make.environment()
        _row, text = services.create_token(
            "short",
            scopes=["config:read"],
            expires_at=clock.now() + timedelta(minutes=1),
            actor=make.actor(place),
        )
        later = clock.now() + timedelta(minutes=1)

        with clock.use(lambda: later):
            assert selectors.find_token(text) is None
            assert with_token(text).get("/api/v1/flags").status_code == 401

    def test_a_revoked_token_is_401_and_audited(self) -> None:
        row, text = make.token()
        keeper = make.client(row.environment)

        answer = keeper.post(f"{TOKENS}/{row.pk}/end", {"reason": "leaked"})

        assert answer.status_code == 200
        assert with_token(text).get("/api/v1/flags").status_code == 401
        assert Entry.objects.get(action="token.revoked").reason == "leaked"

    def test_revoking_twice_is_409(self) -> None:
        row, _text = make.token()
        actor = make.actor(row.environment)
        services.revoke_token(row.pk, version=None, reason="leaked", actor=actor)

        with pytest.raises(Conflict):
            services.revoke_token(row.pk, version=None, reason="leaked", actor=actor)

    def test_revoking_needs_a_reason(self) -> None:
        row, _text = make.token()

        answer = make.client(row.environment).post(f"{TOKENS}/{row.pk}/end", {})

        assert (answer.status_code, "reason" in answer.json()["errors"]) == (400, True)

    def test_its_use_is_noted_to_the_minute(self) -> None:
        row, text = make.token()
        client = with_token(text)

        client.get("/api/v1/flags")
        row.refresh_from_db()
        first = row.last_used_at
        client.get("/api/v1/flags")
        row.refresh_from_db()

        assert first is not None
        assert row.last_used_at == first

    def test_uses_that_could_not_be_written_are_kept(self) -> None:
        row, _text = make.token()
        used = Uses()
        used.add([row.pk])

        with pytest.raises(OperationalError):
            used.write(unreachable)
        used.write(services.note_uses)

        row.refresh_from_db()
        assert row.last_used_at is not None

    def test_another_environments_things_are_404(self) -> None:
        _row, text = make.token()
        elsewhere = make.service()

        answer = with_token(text).get(f"/api/v1/services/{elsewhere.pk}")

        assert answer.status_code == 404

    def test_one_of_a_service_sees_that_service_only(self) -> None:
        service = make.service()
        other = make.service(service.environment)
        client = make.client(of=service)

        assert client.get(f"/api/v1/services/{service.pk}").status_code == 200
        assert client.get(f"/api/v1/services/{other.pk}").status_code == 404


@pytest.mark.django_db
class TestMakingOne:
    def body(self, **values: Any) -> dict[str, Any]:
        return {"name": "checkout", "scopes": ["policies:read", "reports:write"]} | values

    def test_shows_its_text_once(self) -> None:
        place = make.environment()
        client = make.client(place)

        answer = client.post(TOKENS, self.body())
        again = client.get(answer["Location"])

        text = answer.json()["token"]
        assert answer.status_code == 201
        assert FORM.fullmatch(text)
        assert answer["Cache-Control"] == "no-store"
        assert "token" not in again.json()
        assert text not in client.get(TOKENS).content.decode()
        found = selectors.find_token(text)
        assert found is not None
        assert found.environment == place

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("scopes", []),
            ("scopes", ["all"]),
            ("scopes", "policies:read"),
            ("scopes", ["system:write"]),
            ("name", ""),
            ("name", "x" * 121),
            ("service", "nobody"),
            ("expires_at", "2001-01-01T00:00:00Z"),
            ("expires_at", "0001-01-01T00:00:00+23:59"),
            ("expires_at", "9999-12-31T23:59:59-23:59"),
            ("expires_at", "soon"),
            ("token", "hf_mine"),
        ],
    )
    def test_wrong_values_are_named(self, field: str, value: Any) -> None:
        client = make.client()
        before = ApiToken.objects.count()

        answer = client.post(TOKENS, self.body(**{field: value}))

        assert answer.status_code == 400
        assert any(name.startswith(field) for name in answer.json()["errors"])
        assert ApiToken.objects.count() == before

    def test_a_token_cannot_give_what_it_has_not(self) -> None:
        client = make.client(scopes=["tokens:write", "config:read"])

        more = client.post(TOKENS, self.body(scopes=["flags:write"]))
        less = client.post(TOKENS, self.body(scopes=["config:read"]))

        assert (more.status_code, less.status_code) == (403, 201)

    def test_a_token_cannot_make_one_that_outlives_it(self) -> None:
        end = clock.now() + timedelta(hours=1)
        _row, text = services.create_token(
            "short", scopes=["tokens:write"], expires_at=end, actor=make.actor(make.environment())
        )
        client = with_token(text)
        ends = [None, end + timedelta(seconds=1), end]

        statuses = [
            client.post(TOKENS, self.body(scopes=["tokens:write"], expires_at=each)).status_code
            for each in ends
        ]

        assert statuses == [403, 403, 201]

    def test_a_token_of_a_service_cannot_leave_it(self) -> None:
        service = make.service()
        client = make.client(of=service)

        wide = client.post(TOKENS, self.body())
        own = client.post(TOKENS, self.body(service=service.slug))

        assert (wide.status_code, own.status_code) == (403, 201)

    def test_a_token_of_a_service_does_not_see_others_tokens(self) -> None:
        service = make.service()
        other, _text = make.token(service.environment)
        client = make.client(of=service)

        answer = client.post(f"{TOKENS}/{other.pk}/end", {"reason": "x"})

        assert answer.status_code == 404

    @pytest.mark.parametrize(
        ("role", "status"), [("viewer", 403), ("operator", 403), ("administrator", 201)]
    )
    def test_is_for_administrators(self, role: str, status: int) -> None:
        place = make.environment()
        session = make.browser(make.member(place, role))

        answer = session.post(
            f"{TOKENS}?environment={place}", self.body(), content_type="application/json"
        )

        assert answer.status_code == status


@pytest.mark.django_db
class TestCreatetoken:
    def run(self, *scopes: str, **options: Any) -> str:
        output = StringIO()
        call_command("createtoken", scopes=list(scopes), stdout=output, **options)
        return output.getvalue()

    def test_makes_what_is_missing_and_prints_the_token_last(self) -> None:
        said = self.run("policies:read", environment="production", service="checkout")

        token = selectors.find_token(said.strip().splitlines()[-1])
        assert token is not None
        assert token.service == Service.objects.get(slug="checkout")
        assert token.environment == Environment.objects.get(slug="production")

    def test_lives_as_long_as_it_says(self) -> None:
        self.run("policies:read", environment="production", expires_in="90d")

        token = ApiToken.objects.get()
        assert token.expires_at is not None
        days = (token.expires_at - token.created_at) / timedelta(days=1)
        assert days == pytest.approx(90, abs=0.01)

    @pytest.mark.parametrize(
        ("scope", "options", "said"),
        [
            ("everything", {}, "Unknown: everything"),
            ("everything", {"service": "checkout"}, "Unknown: everything"),
            ("policies:read", {"expires_in": "soon"}, "not a time"),
            ("policies:read", {"environment": "Bad Name"}, "lower-case"),
            ("policies:read", {"service": "Bad Name"}, "lower-case"),
        ],
    )
    def test_says_what_is_wrong(self, scope: str, options: dict[str, Any], said: str) -> None:
        with pytest.raises(CommandError, match=said):
            self.run(scope, **{"environment": "production", **options})

        left = [ApiToken, Service, Environment, Entry]
        assert [model.__name__ for model in left if model._default_manager.exists()] == []


@pytest.mark.django_db
class TestPeople:
    def test_a_weak_password_is_refused(self) -> None:
        with pytest.raises(RuleBroken) as refused:
            services.create_user("ana", password="short", actor=make.actor())

        assert "password" in refused.value.errors

    def test_a_name_in_use_is_a_conflict(self) -> None:
        make.user("ana")

        with pytest.raises(Conflict):
            services.create_user("ana", password="correct horse staple", actor=make.actor())

    @pytest.mark.parametrize("name", ["", "a b", "x" * 151, "nul\0"])
    def test_what_is_no_name_is_refused(self, name: str) -> None:
        with pytest.raises(RuleBroken):
            services.create_user(name, password="correct horse staple", actor=make.actor())

    def test_nobody_locks_themselves_out(self) -> None:
        person = make.user(is_superuser=True)
        actor = selectors.actor_of_user(person, source="admin")

        with pytest.raises(Conflict):
            services.set_active(person.pk, is_active=False, actor=actor)

    def test_a_new_password_ends_open_sessions(self) -> None:
        person = make.member()
        session = make.browser(person)

        services.set_password(person.pk, password="correct horse staple", actor=make.actor())

        assert session.get("/api/v1/flags").status_code == 401

    def test_a_deactivated_persons_session_ends(self) -> None:
        person = make.member()
        session = make.browser(person)

        services.set_active(person.pk, is_active=False, actor=make.actor())

        assert session.get("/api/v1/flags").status_code == 401

    def test_no_password_is_audited(self) -> None:
        services.create_user("ana", password="correct horse staple", actor=make.actor())

        assert "correct horse" not in Entry.objects.get().text

    def test_a_role_takes_the_place_of_the_one_before(self) -> None:
        place = make.environment()
        person = make.member(place, "viewer")

        services.grant_role(
            person.pk, environment_id=place.pk, role="operator", actor=make.actor(place)
        )

        assert selectors.scopes_by_environment(person) == {place.pk: rules.ROLE_SCOPES["operator"]}
        entry = Entry.objects.get(action="role.granted")
        assert entry.content["before"]["role"] == "viewer"

    def test_a_role_changed_meanwhile_is_neither_changed_nor_withdrawn(self) -> None:
        place = make.environment()
        person = make.member(place, "viewer")
        row = person.memberships.get()
        grant = partial(services.grant_role, person.pk, environment_id=place.pk)
        grant(role="operator", version=row.version, actor=make.actor(place))

        with pytest.raises(Stale):
            grant(role="administrator", version=row.version, actor=make.actor(place))
        with pytest.raises(Stale):
            services.withdraw_role(row.pk, version=row.version, actor=make.actor(place))

        assert person.memberships.get().role == "operator"

    def test_a_withdrawn_role_opens_nothing(self) -> None:
        place = make.environment()
        person = make.member(place)
        session = make.browser(person)

        services.withdraw_role(person.memberships.get().pk, actor=make.actor(place))

        assert session.get(f"/api/v1/flags?environment={place}").status_code == 404

    def test_roles_only_add_up(self) -> None:
        assert rules.ROLE_SCOPES["viewer"] < rules.ROLE_SCOPES["operator"]
        assert rules.ROLE_SCOPES["operator"] < rules.ROLE_SCOPES["administrator"]
        assert rules.ROLE_SCOPES["administrator"] <= SCOPES

    def test_a_token_cannot_be_forged_by_its_selector(self) -> None:
        row, _text = make.token()

        assert selectors.find_token(f"hf_{row.selector}_{'a' * 43}") is None

    def test_only_a_token_with_the_right_actor_kind_is_bound(self) -> None:
        place = make.environment()
        person = make.actor(place, scopes=frozenset({"tokens:write"}))

        token, _text = services.create_token("sdk", scopes=["policies:read"], actor=person)

        assert token.scopes == ["policies:read"]
        with pytest.raises(Forbidden):
            services.create_token(
                "more",
                scopes=["policies:read"],
                actor=token_actor(place, frozenset({"tokens:write"})),
            )


def token_actor(place: Environment, scopes: frozenset[str]) -> Any:
    return replace(make.actor(place, scopes=scopes), kind="token")


def unreachable(token_ids: list[int]) -> None:
    raise OperationalError("database is locked")
