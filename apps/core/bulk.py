"""Writing many rows by one statement with one parameter: a JSON text the database takes apart.

For the few places that write hundreds of rows a second. The ORM would adapt and quote each value
in Python, while every other thread of the process waits for the interpreter.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from django.db import connections, models, router

Row = Mapping[str, Any]
"""Value by the column's attribute (`service_id`). Times are aware and in UTC."""

_plain = msgspec.json.Encoder()
_compact = msgspec.json.Encoder(uuid_format="hex")  # as Django keeps a UUID on SQLite


def upsert(
    model: type[models.Model], rows: Sequence[Row], *, unique: Sequence[str], update: Sequence[str]
) -> None:
    """Insert rows; of one that is there already by its `unique` columns, write `update` over.

    Every row has the same columns, and all that have no default in the database.
    """
    if rows:
        table = _table(model, tuple(rows[0]), router.db_for_write(model))
        table.execute(table.upsert(tuple(unique), tuple(update)), rows)


def update(model: type[models.Model], rows: Sequence[Row], *, key: str) -> None:
    """Write the columns of each row over what the row of its `key` holds; others stay as they are.

    The rows are changed in no certain order: have them locked if others change them too.
    """
    if rows:
        table = _table(model, tuple(rows[0]), router.db_for_write(model))
        table.execute(table.update(key), rows)


class _Table:
    """Statements for a model's table and rows of certain columns, which they call `given`."""

    def __init__(self, model: type[models.Model], names: tuple[str, ...], alias: str) -> None:
        connection = connections[alias]
        fields = {field.attname: field for field in model._meta.concrete_fields}
        self._alias, self._quote = alias, connection.ops.quote_name
        self._name = self._quote(model._meta.db_table)
        self._columns = {name: self._quote(fields[name].column or name) for name in names}
        if connection.vendor == "postgresql":
            types = {name: fields[name].db_type(connection) for name in names}
            columns = ", ".join(f"{self._quote(name)} {type}" for name, type in types.items())
            self._source = f"json_to_recordset(%s::json) AS given({columns})"
            self._encoder = _plain
        else:
            columns = ", ".join(
                f"{_extracted(fields[name])} AS {self._quote(name)}" for name in names
            )
            self._source = f"(SELECT {columns} FROM json_each(%s)) AS given"
            self._encoder = _compact

    @cache  # noqa: B019 - tables are kept for good
    def upsert(self, unique: tuple[str, ...], update: tuple[str, ...]) -> str:
        names = ", ".join(self._columns.values())
        given = ", ".join(map(self._quote, self._columns))
        conflict = ", ".join(self._columns[name] for name in unique)
        changes = ", ".join(
            f"{self._columns[name]} = excluded.{self._columns[name]}" for name in update
        )
        return (
            f"INSERT INTO {self._name} ({names}) SELECT {given} FROM {self._source} WHERE true "
            f"ON CONFLICT ({conflict}) DO UPDATE SET {changes}"
        )

    @cache  # noqa: B019 - tables are kept for good
    def update(self, key: str) -> str:
        changes = ", ".join(
            f"{column} = given.{self._quote(name)}"
            for name, column in self._columns.items()
            if name != key
        )
        pair = f"{self._name}.{self._columns[key]} = given.{self._quote(key)}"
        return f"UPDATE {self._name} SET {changes} FROM {self._source} WHERE {pair}"

    def execute(self, statement: str, rows: Sequence[Row]) -> None:
        with connections[self._alias].cursor() as cursor:
            cursor.execute(statement, [self._encoder.encode(rows).decode()])


_table = cache(_Table)


def _extracted(field: "models.Field[Any, Any]") -> str:
    """The value of a column out of a row that is JSON, as Django keeps it on SQLite."""
    value = f"json_extract(value, '$.{field.attname}')"
    if isinstance(field, models.DateTimeField):  # 2026-11-26 15:18:00.123456
        return f"rtrim(replace({value}, 'T', ' '), 'Z')"
    if isinstance(field, models.JSONField):
        return f"json_quote({value})"
    return value
