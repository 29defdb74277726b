"""Writing many rows by one statement with one parameter: a JSON text the database takes apart.

For the few places that write hundreds of rows a second. The ORM would adapt and quote each value
in Python, while every other thread of the process waits for the interpreter.
"""

from collections.abc import Mapping, Sequence
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
    if not rows:
        return
    table = _Table(model, rows)
    names = ", ".join(table.quoted(name) for name in rows[0])
    conflict = ", ".join(table.quoted(name) for name in unique)
    changes = ", ".join(f"{table.quoted(name)} = excluded.{table.quoted(name)}" for name in update)
    table.execute(
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {table.source} WHERE true "
        f"ON CONFLICT ({conflict}) DO UPDATE SET {changes}"
    )


def update(model: type[models.Model], rows: Sequence[Row], *, key: str) -> None:
    """Write the columns of each row over what the row of its `key` holds; others stay as they are.

    The rows are changed in no certain order: have them locked if others change them too.
    """
    if not rows:
        return
    table = _Table(model, rows)
    changes = ", ".join(
        f"{table.quoted(name)} = given.{table.quoted(name)}" for name in rows[0] if name != key
    )
    pair = f"{table.name}.{table.quoted(key)} = given.{table.quoted(key)}"
    table.execute(f"UPDATE {table.name} SET {changes} FROM {table.source} WHERE {pair}")


class _Table:
    """A model's table, and rows for it as something to select from, called `given`."""

    def __init__(self, model: type[models.Model], rows: Sequence[Row]) -> None:
        self._connection = connections[router.db_for_write(model)]
        fields = {field.attname: field for field in model._meta.concrete_fields}
        self._fields = {name: fields[name] for name in rows[0]}
        self.name = self._connection.ops.quote_name(model._meta.db_table)
        if self._connection.vendor == "postgresql":
            self.source, encoder = self._recordset(), _plain
        else:
            self.source, encoder = self._each(), _compact
        self._text = encoder.encode(
            [{self._column(name): row[name] for name in self._fields} for row in rows]
        )

    def quoted(self, name: str) -> str:
        return self._connection.ops.quote_name(self._column(name))

    def execute(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, [self._text.decode()])

    def _column(self, name: str) -> str:
        column = self._fields[name].column
        assert column is not None  # concrete fields have one
        return column

    def _recordset(self) -> str:
        columns = ", ".join(
            f"{self.quoted(name)} {field.db_type(self._connection)}"
            for name, field in self._fields.items()
        )
        return f"json_to_recordset(%s::json) AS given({columns})"

    def _each(self) -> str:
        columns = ", ".join(
            f"{self._extracted(field)} AS {self.quoted(name)}"
            for name, field in self._fields.items()
        )
        return f"(SELECT {columns} FROM json_each(%s)) AS given"

    def _extracted(self, field: "models.Field[Any, Any]") -> str:
        value = f"json_extract(value, '$.{field.column}')"
        if isinstance(field, models.DateTimeField):  # 2026-11-26 15:18:00.123456, as Django does
            return f"rtrim(replace({value}, 'T', ' '), 'Z')"
        if isinstance(field, models.JSONField):
            return f"json_quote({value})"
        return value
