"""The database itself refuses changes of the audit log, and says so when it no longer would."""

from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

from apps.audit import triggers
from apps.audit.checks import triggers_present
from apps.audit.models import Entry
from apps.audit.services import record
from tests import make


def entry() -> Entry:
    place = make.environment()
    with transaction.atomic():
        made = record("thing.done", place, actor=make.actor(place), environment_id=place.pk)
    connection.check_constraints()  # PostgreSQL truncates nothing with deferred checks pending
    return made


def refused(statement: str) -> bool:
    """Whether the database refuses it."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    except DatabaseError as error:
        return "append-only" in str(error)
    return False


@pytest.mark.django_db
class TestTriggers:
    def test_an_entry_cannot_be_updated(self) -> None:
        entry()

        assert refused("UPDATE audit_entry SET reason = 'other'")

    def test_an_entry_cannot_be_deleted(self) -> None:
        entry()

        assert refused("DELETE FROM audit_entry")
        assert Entry.objects.count() == 1

    def test_entries_cannot_be_truncated(self) -> None:
        entry()
        statement = {
            "postgresql": "TRUNCATE audit_entry",
            "sqlite": "DELETE FROM audit_entry",  # SQLite has no TRUNCATE: this is its own
        }[connection.vendor]

        assert refused(statement)

    def test_an_entry_cannot_be_replaced(self) -> None:
        before = entry()
        columns = ", ".join(f'"{field.column}"' for field in Entry._meta.fields)
        verb = {
            "postgresql": "{} ON CONFLICT (id) DO UPDATE SET reason = 'x'",
            "sqlite": "{}",
        }[connection.vendor]
        insert = {"postgresql": "INSERT INTO", "sqlite": "INSERT OR REPLACE INTO"}
        statement = verb.format(
            f"{insert[connection.vendor]} audit_entry ({columns}) SELECT {columns} FROM audit_entry"
        )

        assert refused(statement)
        assert Entry.objects.get() == before

    def test_an_entry_cannot_be_replaced_by_its_place_in_the_table(self) -> None:
        """SQLite numbers rows by itself, and would put another in the place of one."""
        if connection.vendor != "sqlite":
            return
        before = entry()
        columns = [f'"{field.column}"' for field in Entry._meta.fields]
        others = {'"id"': "'another'", '"sequence"': "99"}
        values = [others.get(column, column) for column in columns]

        assert refused(
            f"INSERT OR REPLACE INTO audit_entry (rowid, {', '.join(columns)}) "
            f"SELECT rowid, {', '.join(values)} FROM audit_entry"
        )
        assert Entry.objects.get() == before


@pytest.mark.django_db
@pytest.mark.parametrize("column", [{"actor_kind": "stranger"}, {"outcome": "other"}], ids=str)
def test_the_database_takes_no_entry_of_a_kind_there_is_not(column: dict[str, str]) -> None:
    row = entry()
    row.pk, row.sequence = uuid4(), 2
    for name, value in column.items():
        setattr(row, name, value)

    with pytest.raises(IntegrityError, match=f"audit_entry_{next(iter(column))}"):
        row.save(force_insert=True)


@pytest.mark.django_db
class TestCheck:
    def test_nothing_to_say_when_they_are_there(self) -> None:
        assert triggers_present(None, ["default"]) == []

    @pytest.mark.parametrize("place", range(3))
    def test_names_a_trigger_that_was_dropped(self, place: int) -> None:
        name = triggers.NAMES[connection.vendor][place]
        drop(name)

        found = triggers_present(None, ["default"])

        assert [message.id for message in found] == ["holdfast.E101"]
        assert name in found[0].msg

    @pytest.mark.parametrize("place", range(3))
    def test_migrate_puts_a_dropped_trigger_back(self, place: int) -> None:
        drop(triggers.NAMES[connection.vendor][place])

        call_command("migrate", verbosity=0)

        assert triggers.missing() == []

    @pytest.mark.parametrize("place", range(3))
    def test_one_that_only_has_the_name_is_found_and_replaced(self, place: int) -> None:
        name = triggers.NAMES[connection.vendor][place]
        drop(name)
        execute(IDLE[connection.vendor] % name)

        found = triggers.missing()
        triggers.create()

        assert (found, triggers.missing()) == ([name], [])
        entry()
        assert refused("UPDATE audit_entry SET reason = 'other'")
        assert refused("DELETE FROM audit_entry")

    @pytest.mark.parametrize("place", range(3))
    def test_one_of_another_table_does_not_stand_in(self, place: int) -> None:
        name = triggers.NAMES[connection.vendor][place]
        drop(name)
        execute((IDLE[connection.vendor] % name).replace(" audit_entry ", " audit_chain "))

        assert triggers.missing() == [name]


@pytest.mark.django_db
@pytest.mark.parametrize("place", range(3))
class TestOnPostgreSQL:
    """What PostgreSQL alone can do to a trigger; SQLite can only drop it."""

    @pytest.mark.parametrize("how", ["DISABLE", "ENABLE REPLICA"])
    def test_one_that_is_not_on_is_found_and_switched_on(self, place: int, how: str) -> None:
        if connection.vendor != "postgresql":
            return
        name = triggers.NAMES["postgresql"][place]
        execute(f"ALTER TABLE audit_entry {how} TRIGGER {name}")

        found = triggers.missing()
        triggers.create()

        assert (found, triggers.missing()) == ([name], [])

    def test_one_that_is_always_on_is_sound(self, place: int) -> None:
        if connection.vendor != "postgresql":
            return
        execute(
            f"ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER {triggers.NAMES['postgresql'][place]}"
        )

        assert triggers.missing() == []

    def test_a_function_that_refuses_nothing_is_found(self, place: int) -> None:
        if connection.vendor != "postgresql":
            return
        execute(
            "CREATE OR REPLACE FUNCTION audit_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN NEW; END $$"
        )

        assert triggers.NAMES["postgresql"][place] in triggers.missing()


IDLE = {
    "sqlite": "CREATE TRIGGER %s BEFORE UPDATE ON audit_entry BEGIN SELECT 1; END",
    "postgresql": "CREATE TRIGGER %s BEFORE INSERT ON audit_entry "
    "FOR EACH ROW EXECUTE FUNCTION audit_entry_refuse()",
}


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def drop(name: str) -> None:
    on_table = " ON audit_entry" if connection.vendor == "postgresql" else ""
    execute(f"DROP TRIGGER {name}{on_table}")
