"""Going back: the settings of a revision return, everything else stays."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.audit.models import Entry
from apps.fleet.models import Environment
from apps.policies import services
from apps.policies.models import CONFIGS, BreakerConfig, Override, RetryConfig
from apps.publication.models import Fragment, Revision
from apps.publication.rules import document_revision
from holdfast.spec import PATTERNS
from tests import make

pytestmark = pytest.mark.django_db


def roll_back(place: Environment, number: int, **members: Any) -> Any:
    return make.client(place).post(
        f"/api/v1/revisions/{number}/rollback", {"reason": "it got worse"} | members
    )


def settings(place: Environment) -> dict[tuple[str, str, str], Any]:
    """The published settings as they are now."""
    rows = Fragment.objects.current().filter(environment=place, part="setting", body__isnull=False)
    return {(row.service, row.dependency, row.name): row.body for row in rows}


class TestRollback:
    def test_changed_added_and_removed_rows_come_back(self) -> None:
        place = make.environment()
        bank = make.dependency(place, "bank")
        changed = make.config("retry", make.scope(place), attempts=2)
        removed = make.config("timeout", make.scope(place, bank), attempt_seconds=3.0)
        then = settings(place)
        actor = make.actor(place)
        services.set_config("retry", scope=changed.holds_in, values={"attempts": 9}, actor=actor)
        services.clear_config("timeout", scope=removed.holds_in, actor=actor)
        make.config("breaker", make.scope(place, bank), open_seconds=5.0)

        answer = roll_back(place, 2)

        assert answer.status_code == 201
        assert answer["Location"] == "/api/v1/revisions/6"
        assert settings(place) == then
        assert RetryConfig.objects.get().values == {"attempts": 2}
        assert not BreakerConfig.objects.exists()

    @pytest.mark.parametrize("pattern", CONFIGS)
    def test_no_pattern_is_left_behind(self, pattern: str) -> None:
        setting = next(iter(PATTERNS[pattern].settings.values()))
        row = make.config(pattern, **{setting.key: setting.default})
        then = settings(row.environment)
        services.clear_config(pattern, scope=row.holds_in, actor=make.actor(row.environment))

        answer = roll_back(row.environment, 1)

        assert answer.status_code == 201
        assert settings(row.environment) == then
        assert CONFIGS[pattern].objects.get().values == {setting.key: setting.default}

    def test_it_is_one_new_revision_that_says_what_it_restores(self) -> None:
        place = make.environment()
        row = make.config(attempts=2, at=make.scope(place))
        services.set_config(
            "retry", scope=row.holds_in, values={"attempts": 9}, actor=make.actor(place)
        )

        answer = roll_back(place, 1)

        assert answer.json()["restores"] == 1
        newest = Revision.objects.first()
        assert newest is not None
        assert (newest.number, newest.restores, newest.reason) == (3, 1, "it got worse")

    def test_it_is_audited_with_what_it_changed(self) -> None:
        place = make.environment()
        row = make.config(attempts=2, at=make.scope(place))
        services.set_config(
            "retry", scope=row.holds_in, values={"attempts": 9}, actor=make.actor(place)
        )

        roll_back(place, 1)

        entry = Entry.objects.get(action="revision.restored")
        assert (entry.reason, entry.revision) == ("it got worse", 3)
        assert entry.content["before"] == {"environment: retry": {"attempts": 9}}
        assert entry.content["after"] == {"environment: retry": {"attempts": 2}}

    def test_values_it_restores_come_from_it(self) -> None:
        place = make.environment()
        row = make.config(attempts=2, jitter="none", at=make.scope(place))
        services.set_config(
            "retry", scope=row.holds_in, values={"attempts": 9}, actor=make.actor(place)
        )

        roll_back(place, 1)

        origins = RetryConfig.objects.get().origins
        assert (origins["attempts"]["revision"], origins["jitter"]["revision"]) == (3, 1)

    def test_flags_and_overrides_stay_as_they_are_now(self) -> None:
        place = make.environment()
        row = make.config(attempts=2, at=make.scope(place))
        services.set_config(
            "retry", scope=row.holds_in, values={"attempts": 9}, actor=make.actor(place)
        )
        override = make.override(make.scope(dependency=make.dependency(place)))
        make.engaged(place, "read-only")

        roll_back(place, 1)

        assert Override.objects.active().get() == override
        now = Fragment.objects.current().filter(part__in=["override", "flag"])
        assert [fragment.body is not None for fragment in now] == [True, True]

    def test_a_rollback_can_be_rolled_back(self) -> None:
        place = make.environment()
        row = make.config(attempts=2, at=make.scope(place))
        services.set_config(
            "retry", scope=row.holds_in, values={"attempts": 9}, actor=make.actor(place)
        )
        roll_back(place, 1)

        roll_back(place, 2)

        assert RetryConfig.objects.get().values == {"attempts": 9}

    def test_services_it_does_not_touch_keep_their_documents_revision(self) -> None:
        place = make.environment()
        bank = make.dependency(place)
        checkout, other = make.service(place), make.service(place)
        make.config(at=make.scope(place, bank, other), attempts=3)
        row = make.config(at=make.scope(place, bank, checkout), attempts=2)
        services.set_config(
            "retry", scope=row.holds_in, values={"attempts": 9}, actor=make.actor(place)
        )

        roll_back(place, 2)

        fragments = list(Fragment.objects.current().filter(environment=place))
        assert document_revision(fragments, checkout.slug) == 4
        assert document_revision(fragments, other.slug) == 1


class TestWhatWaits:
    """Everybody else who publishes in the environment waits while its head is held."""

    def test_restoring_thirty_rows_costs_as_many_statements_with_the_head_as_two(self) -> None:
        few, many = make.environment(), make.environment()

        counts = [len(with_the_head(place, rows)) for place, rows in ((few, 2), (many, 30))]

        assert counts[0] == counts[1]

    def test_policies_are_judged_before(self) -> None:
        place = make.environment()
        row = make.config(attempts=2, at=make.scope(place))

        with CaptureQueriesContext(connection) as queries:
            services.set_config(
                "retry", scope=row.holds_in, values={"attempts": 9}, actor=make.actor(place)
            )

        bodies = '"publication_fragment"."body"'
        assert [sql for sql in after_the_head(queries) if bodies in sql] == []


def with_the_head(place: Environment, rows: int) -> list[str]:
    """The statements of a rollback of that many rows, from taking the head on."""
    actor = make.actor(place)
    configs = [make.config(at=make.scope(place, make.dependency(place))) for _row in range(rows)]
    for config in configs:
        services.set_config("retry", scope=config.holds_in, values={"attempts": 9}, actor=actor)

    with CaptureQueriesContext(connection) as queries:
        services.rollback(rows, reason="it got worse", actor=actor)

    assert {row.values["attempts"] for row in RetryConfig.objects.filter(environment=place)} == {5}
    return after_the_head(queries)


def after_the_head(queries: CaptureQueriesContext) -> list[str]:
    statements = [each["sql"] for each in queries.captured_queries]
    taken = next(
        place for place, sql in enumerate(statements) if sql.startswith('UPDATE "publication_head"')
    )
    return statements[taken:]


class TestRefusals:
    def test_an_unknown_revision(self) -> None:
        assert roll_back(make.environment(), 7).status_code == 404

    def test_another_environments_revision(self) -> None:
        make.config()

        assert roll_back(make.environment(), 1).status_code == 404

    def test_the_same_settings_are_a_conflict(self) -> None:
        row = make.config()

        answer = roll_back(row.environment, 1)

        assert answer.status_code == 409
        assert Revision.objects.count() == 1

    @pytest.mark.parametrize(
        "members", [{"reason": ""}, {"reason": " "}, {"reason": ["x"]}, {"colour": 1}], ids=str
    )
    def test_bad_input(self, members: dict[str, Any]) -> None:
        row = make.config()
        services.clear_config("retry", scope=row.holds_in, actor=make.actor(row.environment))

        answer = roll_back(row.environment, 1, **members)

        assert answer.status_code == 400
        assert Revision.objects.count() == 2

    def test_a_missing_scope_is_recorded(self) -> None:
        row = make.config()
        api = make.client(row.environment, scopes=["config:read"])

        answer = api.post("/api/v1/revisions/1/rollback", {"reason": "x"})

        assert answer.status_code == 403
        assert Entry.objects.filter(outcome="denied").count() == 1

    def test_a_token_of_one_service(self) -> None:
        row = make.config()
        service = make.service(row.environment)

        answer = make.client(of=service).post("/api/v1/revisions/1/rollback", {"reason": "x"})

        assert answer.status_code == 403
