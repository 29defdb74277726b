"""Whoever changes the audit log behind our back is found, with the first entry that broke."""

import json
import threading
import uuid
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from apps.audit import rules, selectors, triggers
from apps.audit.models import Chain, Entry
from apps.audit.services import record
from tests import make


def chain_of(length: int) -> Chain:
    """A chain with that many entries."""
    place = make.environment()
    with transaction.atomic():
        for number in range(length):
            record(
                "flag.engaged",
                place,
                actor=make.actor(place),
                environment_id=place.pk,
                before={"enabled": False},
                after={"enabled": True, "number": number},
                reason="failing over",
            )
    return Chain.objects.get(environment_id=place.pk)


def entries(sequence: int) -> Any:
    return Entry.objects.filter(sequence=sequence)


def edit_text() -> None:
    text = entries(3).get().text
    entries(3).update(text=text.replace("failing over", "falling over"))


def edit_text_and_its_hash() -> None:
    text = entries(3).get().text.replace("failing over", "falling over")
    entries(3).update(text=text, hash=rules.hash_of(text), reason="falling over")


def edit_column() -> None:
    entries(3).update(actor_label="somebody else")


def delete_from_the_middle() -> None:
    entries(3).delete()


def delete_the_first() -> None:
    entries(1).delete()


def cut_the_tail() -> None:
    Entry.objects.filter(sequence__gte=5).delete()


def swap_two() -> None:
    entries(3).update(sequence=99)
    entries(4).update(sequence=3)
    entries(99).update(sequence=4)


def close_a_gap() -> None:
    entries(3).delete()
    entries(4).update(sequence=3)
    entries(5).update(sequence=4)


def copy_one() -> None:
    entries(3).delete()
    copy = entries(2).get()
    copy.pk, copy.sequence = uuid.uuid4(), 3
    copy.save(force_insert=True)


def add_one_at_the_end() -> None:
    extra = entries(5).get()
    extra.pk, extra.sequence = uuid.uuid4(), 6
    extra.save(force_insert=True)


TAMPERING: list[tuple[Callable[[], None], int]] = [
    (edit_text, 3),
    (edit_text_and_its_hash, 4),
    (edit_column, 3),
    (delete_from_the_middle, 3),
    (delete_the_first, 1),
    (cut_the_tail, 5),
    (swap_two, 3),
    (close_a_gap, 3),
    (copy_one, 3),
]


@pytest.mark.django_db
class TestVerification:
    def test_an_untouched_chain_holds(self) -> None:
        chain = chain_of(5)

        verdict = selectors.verify(chain)

        assert (verdict.entries, verdict.broken) == (5, None)

    def test_an_empty_chain_holds(self) -> None:
        chain = Chain.objects.create(name="environment 0", environment_id=0)

        assert selectors.verify(chain).broken is None

    @pytest.mark.parametrize(
        ("tamper", "broken_at"), TAMPERING, ids=[each.__name__ for each, _ in TAMPERING]
    )
    def test_names_the_first_entry_that_broke(
        self, tamper: Callable[[], None], broken_at: int
    ) -> None:
        chain = chain_of(5)
        with triggers.lifted():
            tamper()

        verdict = selectors.verify(chain)

        assert verdict.broken is not None
        assert verdict.broken.sequence == broken_at

    def test_an_entry_the_head_does_not_know_is_found(self) -> None:
        chain = chain_of(5)
        with triggers.lifted():
            add_one_at_the_end()

        verdict = selectors.verify(chain)

        assert verdict.broken is not None
        assert verdict.broken.sequence == 6

    def test_one_broken_chain_leaves_the_others_valid(self) -> None:
        broken, sound = chain_of(2), chain_of(2)
        with triggers.lifted():
            Entry.objects.filter(chain=broken, sequence=1).update(reason="other")

        states = {verdict.chain: verdict.broken for verdict in selectors.verify_all()}

        assert states[sound.name] is None
        assert states[broken.name] is not None

    def test_text_that_is_no_json_is_a_break_and_no_crash(self) -> None:
        chain = chain_of(2)
        with triggers.lifted():
            entries(2).update(text="{", hash=rules.hash_of("{"))

        verdict = selectors.verify(chain)

        assert verdict.broken is not None
        assert verdict.broken.sequence == 2

    def test_text_without_its_members_is_a_break_and_no_crash(self) -> None:
        chain = chain_of(2)
        text = json.dumps({"sequence": 2})
        with triggers.lifted():
            entries(2).update(text=text, hash=rules.hash_of(text))

        verdict = selectors.verify(chain)

        assert verdict.broken is not None
        assert verdict.broken.sequence == 2


class Meanwhile:
    """Writes to the chain, on a thread of its own, once its entries have begun to be read."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._thread = threading.Thread(target=self._write)
        self.was_in_time = False

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found = execute(sql, params, many, context)
        if sql.startswith("SELECT") and '"audit_entry"' in sql and self._thread.ident is None:
            self._thread.start()
            self._thread.join(5.0)  # the database would have it wait for 20 s
            self.was_in_time = not self._thread.is_alive()
        return found

    def _write(self) -> None:
        try:
            with transaction.atomic():
                record(
                    "flag.ended",
                    self._chain,
                    actor=make.actor(),
                    environment_id=self._chain.environment_id,
                )
        finally:
            connection.close()

    def end(self) -> None:
        self._thread.join()


@pytest.mark.django_db(transaction=True)
class TestWritersMeanwhile:
    def test_a_change_waits_for_no_verification_and_does_not_break_it(self) -> None:
        chain = chain_of(3)
        meanwhile = Meanwhile(chain)

        with connection.execute_wrapper(meanwhile):
            verdict = selectors.verify(chain)
        meanwhile.end()

        assert meanwhile.was_in_time
        assert (verdict.entries, verdict.broken) == (3, None)
        assert selectors.verify(chain).entries == 4

    def test_a_chain_of_several_pages_is_read_to_its_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(selectors, "PAGE", 2)
        chain = chain_of(5)
        with triggers.lifted():
            entries(5).update(reason="another reason")

        verdict = selectors.verify(chain)

        assert verdict.broken is not None
        assert verdict.broken.sequence == 5


@pytest.mark.django_db
class TestVerifyauditCommand:
    def test_says_that_every_chain_holds(self) -> None:
        chain = chain_of(3)
        output = StringIO()

        call_command("verifyaudit", stdout=output)

        assert f"{chain}: 3 entries, holds" in output.getvalue()

    def test_names_the_broken_entry_and_fails(self) -> None:
        chain = chain_of(3)
        with triggers.lifted():
            entries(2).update(reason="another reason")
        output = StringIO()

        with pytest.raises(CommandError, match="changed outside Holdfast"):
            call_command("verifyaudit", stdout=output)

        assert f"{chain}: 3 entries, BROKEN at 2: columns differ" in output.getvalue()
