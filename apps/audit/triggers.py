"""The database itself refuses to change or remove audit entries.

SQLite drops triggers without a word when a table is remade, so they are put back after every
migration and a system check looks for them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

TABLE = "audit_entry"
NAMES = {
    "sqlite": ("audit_entry_no_update", "audit_entry_no_delete", "audit_entry_no_replace"),
    "postgresql": ("audit_entry_no_update", "audit_entry_no_delete", "audit_entry_no_truncate"),
}

_ON_SQLITE = {
    **{
        f"audit_entry_no_{verb.lower()}": f"BEFORE {verb} ON {TABLE} "
        "BEGIN SELECT RAISE(ABORT, 'audit entries are append-only'); END"
        for verb in ("UPDATE", "DELETE")
    },
    # INSERT OR REPLACE deletes without asking the delete trigger.
    "audit_entry_no_replace": f"BEFORE INSERT ON {TABLE} "
    f"WHEN EXISTS (SELECT 1 FROM {TABLE} WHERE id = NEW.id OR rowid = NEW.rowid "
    "OR (chain_id = NEW.chain_id AND sequence = NEW.sequence)) "
    "BEGIN SELECT RAISE(ABORT, 'audit entries are append-only'); END",
}
_REFUSAL = " BEGIN RAISE EXCEPTION 'audit entries are append-only'; END "
# pg_trigger.tgtype: before (2), for each row (1), on delete (8), update (16), truncate (32).
_ON_POSTGRESQL = {
    "audit_entry_no_update": ("UPDATE", "ROW", 1 | 2 | 16),
    "audit_entry_no_delete": ("DELETE", "ROW", 1 | 2 | 8),
    "audit_entry_no_truncate": ("TRUNCATE", "STATEMENT", 2 | 32),
}


def create(db: BaseDatabaseWrapper | None = None) -> None:
    """Put every trigger in place, as it has to be; safe to run again."""
    db = db or connection
    statements = _for_sqlite(missing(db)) if db.vendor == "sqlite" else _for_postgresql()
    with db.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _for_sqlite(names: list[str]) -> Iterator[str]:
    for name in names:
        yield f"DROP TRIGGER IF EXISTS {name}"  # another one of its name
        yield f"CREATE TRIGGER {name} {_ON_SQLITE[name]}"


def _for_postgresql() -> Iterator[str]:
    yield (
        "CREATE OR REPLACE FUNCTION audit_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$${_REFUSAL}$$"
    )
    for name, (verb, each, _type) in _ON_POSTGRESQL.items():
        yield (
            f"CREATE OR REPLACE TRIGGER {name} BEFORE {verb} ON {TABLE} "
            f"FOR EACH {each} EXECUTE FUNCTION audit_entry_refuse()"
        )


def missing(db: BaseDatabaseWrapper | None = None) -> list[str]:
    """The triggers that do not stand guard, by name: not there, not on, or of other effect."""
    db = db or connection
    with db.cursor() as cursor:
        sound = _sound_on_sqlite(cursor) if db.vendor == "sqlite" else _sound_on_postgresql(cursor)
    return [name for name in NAMES[db.vendor] if name not in sound]


def _sound_on_sqlite(cursor: Any) -> set[str]:
    cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    return {
        name
        for name, text in cursor.fetchall()
        if text == f"CREATE TRIGGER {name} {_ON_SQLITE.get(name)}"
    }


def _sound_on_postgresql(cursor: Any) -> set[str]:
    """Enabled (always, or unless the session is a replica's), without a condition, ours."""
    cursor.execute(
        "SELECT tgname, tgtype FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid "
        "WHERE tgrelid = to_regclass(%s) AND tgenabled IN ('O', 'A') "
        "AND tgqual IS NULL AND tgattr::text = '' "
        "AND proname = 'audit_entry_refuse' AND prosrc = %s",
        [TABLE, _REFUSAL],
    )
    return {
        name
        for name, kind in cursor.fetchall()
        if name in _ON_POSTGRESQL and kind == _ON_POSTGRESQL[name][2]
    }


@contextmanager
def lifted(db: BaseDatabaseWrapper | None = None) -> Iterator[None]:
    """Let entries be removed inside the block: for purging checkpointed ranges and for tests
    that flush the database. There is no other way past the triggers.
    """
    db = db or connection
    with db.cursor() as cursor:
        for name in NAMES[db.vendor]:
            on_table = f" ON {TABLE}" if db.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}{on_table}")
    try:
        yield
    finally:
        create(db)


def create_after_migrate(**kwargs: Any) -> None:
    """`post_migrate`: a remade table gets its triggers back."""
    create(connections[kwargs["using"]])
