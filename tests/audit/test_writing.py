"""Entries are written with their change, in order, whoever writes at the same time."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.audit import selectors, services
from apps.audit.models import Chain, Entry
from apps.core.errors import RuleBroken
from apps.degradation import services as degradation
from apps.fleet.models import Environment
from tests import make

WRITERS = 16


@pytest.mark.django_db
class TestRecord:
    def test_is_refused_outside_a_change(self, django_db_blocker: Any) -> None:
        place = make.environment()
        connection.in_atomic_block, was = False, connection.in_atomic_block

        try:
            with pytest.raises(RuntimeError, match="inside the change"):
                services.record(
                    "thing.done", place, actor=make.actor(place), environment_id=place.pk
                )
        finally:
            connection.in_atomic_block = was

    def test_environments_have_chains_of_their_own(self) -> None:
        first, second = make.environment(), make.environment()
        for place in (first, second, None):
            services.record(
                "thing.done",
                first,
                actor=make.actor(first),
                environment_id=place.pk if place else None,
            )

        assert {chain.name: chain.sequence for chain in Chain.objects.all()} == {
            f"environment {first.pk}": 1,
            f"environment {second.pk}": 1,
            "system": 1,
        }

    def test_a_change_that_fails_leaves_no_entry(self) -> None:
        flag = make.flag()

        with pytest.raises(RuleBroken):
            degradation.engage_flag(
                flag.pk, version=1, lease=None, reason="", actor=make.actor(flag.environment)
            )

        assert not Entry.objects.exists()


@pytest.mark.django_db
class TestRecordMany:
    def test_entries_keep_their_order_and_the_chain_holds(self) -> None:
        place = make.environment()
        record_many(place, 3)

        record_many(place, 4)

        chain = Chain.objects.get(environment_id=place.pk)
        numbers = Entry.objects.order_by("sequence").values_list("sequence", "object_id")
        wanted = [str(number) for count in (3, 4) for number in range(count)]
        assert list(numbers) == list(enumerate(wanted, start=1))
        assert (chain.sequence, selectors.verify(chain).broken) == (7, None)

    def test_twenty_cost_as_many_statements_as_two(self) -> None:
        place = make.environment()
        record_many(place, 1)

        with CaptureQueriesContext(connection) as two:
            record_many(place, 2)
        with CaptureQueriesContext(connection) as twenty:
            record_many(place, 20)

        assert len(twenty) == len(two)

    def test_nothing_done_is_nothing_written(self) -> None:
        place = make.environment()

        record_many(place, 0)

        assert not Chain.objects.exists()


@dataclass
class Thing:
    """Whatever a change is about."""

    pk: int


def record_many(place: Environment, count: int) -> None:
    changes = [services.Change("thing.done", Thing(number)) for number in range(count)]
    with transaction.atomic():
        services.record_many(changes, actor=make.actor(place), environment_id=place.pk)


@pytest.mark.django_db(transaction=True)
class TestConcurrentWriters:
    def test_leave_a_valid_chain(self) -> None:
        place = make.environment()

        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(write, [place] * WRITERS, range(WRITERS)))

        chain = Chain.objects.get(environment_id=place.pk)
        verdict = selectors.verify(chain)
        assert (verdict.entries, verdict.broken) == (WRITERS * 5, None)


def write(place: Environment, number: int) -> None:
    """Five entries, each in a transaction of its own, on a connection of this thread."""
    try:
        for turn in range(5):
            with transaction.atomic():
                services.record(
                    "thing.done",
                    place,
                    actor=make.actor(place),
                    environment_id=place.pk,
                    reason=f"writer {number}, turn {turn}",
                )
    finally:
        connection.close()
