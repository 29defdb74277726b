"""Entries are written with their change, in order, whoever writes at the same time."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

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
