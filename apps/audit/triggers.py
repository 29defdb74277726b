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

_CREATE = {
    "sqlite": [
        *(
            f"CREATE TRIGGER IF NOT EXISTS audit_entry_no_{verb.lower()} BEFORE {verb} ON {TABLE} "
            "BEGIN SELECT RAISE(ABORT, 'audit entries are append-only'); END"
            for verb in ("UPDATE", "DELETE")
        ),
        # INSERT OR REPLACE deletes without asking the delete trigger.
        f"CREATE TRIGGER IF NOT EXISTS audit_entry_no_replace BEFORE INSERT ON {TABLE} "
        f"WHEN EXISTS (SELECT 1 FROM {TABLE} WHERE id = NEW.id OR rowid = NEW.rowid "
        "OR (chain_id = NEW.chain_id AND sequence = NEW.sequence)) "
        "BEGIN SELECT RAISE(ABORT, 'audit entries are append-only'); END",
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'audit entries are append-only'; END $$",
        *(
            f"CREATE OR REPLACE TRIGGER audit_entry_no_{verb.lower()} BEFORE {verb} ON {TABLE} "
            f"FOR EACH {'STATEMENT' if verb == 'TRUNCATE' else 'ROW'} "
            "EXECUTE FUNCTION audit_entry_refuse()"
            for verb in ("UPDATE", "DELETE", "TRUNCATE")
        ),
    ],
}


def create(db: BaseDatabaseWrapper | None = None) -> None:
    """Put every trigger in place; safe to run again."""
    db = db or connection
    with db.cursor() as cursor:
        for statement in _CREATE[db.vendor]:
            cursor.execute(statement)


def missing(db: BaseDatabaseWrapper | None = None) -> list[str]:
    """The triggers that are not there, by name."""
    db = db or connection
    query = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE tgenabled <> 'D'",
    }[db.vendor]
    with db.cursor() as cursor:
        cursor.execute(query)
        present = {row[0] for row in cursor.fetchall()}
    return [name for name in NAMES[db.vendor] if name not in present]


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
