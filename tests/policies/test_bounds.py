"""One definition of every setting, held at three doors: the API, the form and the database."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import Field
from django.urls import reverse

from apps.policies.models import CONFIGS, BreakerConfig
from holdfast.spec import ACTIVE_PATTERNS, PATTERNS, Setting
from tests import make

pytestmark = pytest.mark.unmeasured
SETTINGS = [row for pattern in CONFIGS for row in PATTERNS[pattern].settings.values()]
NUMBERS = {"int", "seconds", "share", "number"}


def out_of_bounds(row: Setting) -> Iterator[Any]:
    """Values just beyond what the setting allows, as JSON."""
    if row.type in NUMBERS:
        assert row.minimum is not None
        assert row.maximum is not None
        yield from (row.minimum - 1, row.maximum + 1)
    elif row.type == "bool":
        yield "maybe"
    elif row.type == "choice":
        yield "none such"[: max(map(len, row.choices))]
    elif row.type == "map":
        yield ["not a map"]
        yield {"no such class": {}}
    else:
        yield {"not": "a list"}
        yield [row.choices[0] if row.choices else {"kind": "queue"}] * ((row.max_items or 0) + 1)


def beyond_the_database(row: Setting) -> Iterator[Any]:
    """The same as SQL parameters, without what only the items of a value could tell."""
    if row.type == "bool":
        yield from [7] if settings.ON_SQLITE else []  # PostgreSQL knows two booleans and no more
    elif row.type in NUMBERS or row.type == "choice":
        yield from out_of_bounds(row)
    else:
        values = list(out_of_bounds(row))
        yield from (json.dumps(value) for value in (values[:1] if row.type == "map" else values))


def cases(values: Any) -> list[Any]:
    return [
        pytest.param(row, value, id=f"{row.path}-{number}")
        for row in SETTINGS
        for number, value in enumerate(values(row))
    ]


class TestTheTable:
    @pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.path)
    def test_every_setting_has_a_column_that_can_inherit(self, row: Setting) -> None:
        column = CONFIGS[row.pattern]._meta.get_field(row.key)

        assert isinstance(column, Field)
        assert column.null
        assert column.help_text == row.help

    def test_no_column_is_unknown_to_the_specification(self) -> None:
        own = {"id", "version", "environment", "service", "dependency", "origins"}
        columns = {
            (pattern, field.name)
            for pattern, model in CONFIGS.items()
            for field in model._meta.get_fields()
            if field.name not in own
        }

        assert columns == {(row.pattern, row.key) for row in SETTINGS}

    def test_every_active_pattern_has_a_table(self) -> None:
        assert set(ACTIVE_PATTERNS) <= set(CONFIGS)


@pytest.mark.django_db
class TestDatabase:
    @pytest.mark.parametrize(("row", "value"), cases(beyond_the_database))
    def test_it_refuses_what_is_out_of_bounds(self, row: Setting, value: Any) -> None:
        table = CONFIGS[row.pattern]._meta.db_table
        made = CONFIGS[row.pattern].objects.create(environment=make.environment())
        column = connection.ops.quote_name(row.key)

        with (
            pytest.raises((IntegrityError, DataError)),  # its rule, or already the column's type
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"UPDATE {table} SET {column} = %s WHERE id = %s", [value, made.pk])

    @pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.path)
    def test_it_takes_the_default_and_the_bounds(self, row: Setting) -> None:
        values = [row.default]
        if row.type in NUMBERS:
            values += [row.minimum, row.maximum]

        for value in values:
            made = CONFIGS[row.pattern].objects.create(
                environment=make.environment(), **{row.key: value}
            )

            assert getattr(made, row.key) == value

    def test_a_service_without_its_dependency_is_no_scope(self) -> None:
        service = make.service()

        with pytest.raises(IntegrityError), transaction.atomic():
            BreakerConfig.objects.create(environment=service.environment, service=service)

    @pytest.mark.parametrize("level", ["environment", "dependency", "service"])
    def test_one_row_per_scope(self, level: str) -> None:
        service = make.service()
        place = service.environment
        dependency = None if level == "environment" else make.dependency(place)
        caller = service if level == "service" else None
        scope = make.scope(place, dependency, caller)
        BreakerConfig.objects.create(**scope.lookup)

        with pytest.raises(IntegrityError), transaction.atomic():
            BreakerConfig.objects.create(**scope.lookup)


@pytest.mark.django_db
class TestApi:
    @pytest.mark.parametrize(("row", "value"), cases(out_of_bounds))
    def test_it_refuses_what_is_out_of_bounds(self, row: Setting, value: Any) -> None:
        api = make.client()

        answer = api.post(f"/api/v1/configs/{row.pattern}", {"settings": {row.key: value}})

        assert answer.status_code == 400
        named = [name for name in answer.json()["errors"] if name.startswith(f"settings.{row.key}")]
        assert named
        assert not CONFIGS[row.pattern].objects.exists()

    def test_it_says_the_range(self) -> None:
        answer = make.client().post("/api/v1/configs/retry", {"settings": {"attempts": 21}})

        assert answer.json()["errors"] == {"settings.attempts": ["It must be 1 to 20 attempts."]}

    @pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.path)
    def test_it_takes_every_default(self, row: Setting) -> None:
        body = {"settings": {row.key: row.default}}

        answer = make.client().post(f"/api/v1/configs/{row.pattern}", body)

        assert answer.status_code == 201
        assert answer.json()["settings"] == {row.key: row.default}


@pytest.mark.django_db
class TestForm:
    @pytest.mark.parametrize(("row", "value"), cases(out_of_bounds))
    def test_it_refuses_what_is_out_of_bounds(self, row: Setting, value: Any) -> None:
        place = make.environment()
        address = reverse(f"admin:policies_{row.pattern.replace('_', '')}config_set")
        text = json.dumps(value) if isinstance(value, list | dict) else str(value)

        answer = make.browser().post(address, {"environment": place.pk, row.key: text})

        assert answer.status_code == 422
        assert row.key in answer.context["form"].errors
        assert not CONFIGS[row.pattern].objects.exists()

    def test_it_says_the_range(self) -> None:
        place = make.environment()
        address = reverse("admin:policies_retryconfig_set")

        answer = make.browser().post(address, {"environment": place.pk, "attempts": "21"})

        assert answer.context["form"].errors["attempts"] == ["It must be 1 to 20 attempts."]
