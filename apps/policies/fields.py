"""Columns for the settings of `holdfast.spec`: type, bounds and choices come from there."""

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from holdfast.spec import PATTERNS, Setting, setting

_JSON = {"list", "choices", "strings", "map"}
_TAKEN = {"scope"}  # the rule on scopes every table has goes by this name


def held(path: str) -> "models.Field[Any, Any]":
    """A column that holds the setting `path`, such as "breaker.open_seconds"; NULL inherits it."""
    row = setting(path)
    common: dict[str, Any] = {
        "null": True,
        "blank": True,
        "help_text": row.help,
        "verbose_name": row.key.replace("_", " "),
    }
    if row.type in _JSON:
        return models.JSONField(**common)
    if row.type == "bool":
        return models.BooleanField(**common)
    if row.type == "choice":
        choices = [(choice, choice) for choice in row.choices]
        return models.CharField(max_length=max(map(len, row.choices)), choices=choices, **common)
    validators = [MinValueValidator(row.minimum), MaxValueValidator(row.maximum)]
    column = models.IntegerField if row.type == "int" else models.FloatField
    return column(validators=validators, **common)


def bounds(pattern: str) -> list[models.BaseConstraint]:
    """What the database itself refuses of a pattern's settings; NULL passes every check.

    Items of lists and maps have bounds of their own, which no portable check can reach: for
    them the database holds shape and length only.
    """
    return [
        models.CheckConstraint(
            condition=_condition(row), name=f"%(app_label)s_%(class)s_{_name(row)}"
        )
        for row in PATTERNS[pattern].settings.values()
    ]


def _name(row: Setting) -> str:
    return f"{row.key}_setting" if row.key in _TAKEN else row.key


def _condition(row: Setting) -> Any:
    if row.type == "bool":
        return Q(**{f"{row.key}__in": [True, False]})
    if row.type == "choice":
        return Q(**{f"{row.key}__in": list(row.choices)})
    if row.type == "map":
        return HoldsObject(row.key)
    if row.type in _JSON:
        return HoldsArray(row.key, most=row.max_items)
    return Q(**{f"{row.key}__gte": row.minimum, f"{row.key}__lte": row.maximum})


class HoldsArray(models.Func):
    """Whether a JSON column holds an array of at most `most` items; for check constraints."""

    output_field = models.BooleanField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = (
            "(JSON_TYPE(%(expressions)s) = 'array'"
            " AND JSON_ARRAY_LENGTH(%(expressions)s) <= %(most)s)"
        )
        return self.as_sql(compiler, connection, template=template, **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = (
            "CASE WHEN JSONB_TYPEOF(%(expressions)s) = 'array'"
            " THEN JSONB_ARRAY_LENGTH(%(expressions)s) <= %(most)s"
            " ELSE %(expressions)s IS NULL END"
        )
        return self.as_sql(compiler, connection, template=template, **context)


class HoldsObject(models.Func):
    """Whether a JSON column holds an object; for check constraints."""

    output_field = models.BooleanField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="JSON_TYPE(%(expressions)s) = 'object'", **context
        )

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="JSONB_TYPEOF(%(expressions)s) = 'object'", **context
        )
