"""Rows written as one JSON text come out as the ORM would have written them."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import IntegrityError

from apps.core import bulk
from apps.fleet.models import Instance
from apps.telemetry.models import InstanceState
from tests import make

pytestmark = pytest.mark.django_db

ODD = 'O\'Brien "% s" \\ 100 % – ü\u2028\U0001f600'


@pytest.mark.parametrize("microsecond", [0, 1, 120_000])
def test_times_texts_and_flags_are_read_back_as_they_were(microsecond: int) -> None:
    at = datetime(2026, 11, 26, 15, 18, 7, microsecond, tzinfo=UTC)
    service, key = make.service(), uuid4()
    row = {
        "id": key, "service_id": service.pk, "name": ODD, "sdk": "", "started_at": at,
        "first_heard_at": at, "heard_at": at, "silent_at": at, "stopping": True,
    }  # fmt: skip

    bulk.upsert(Instance, [row], unique=["id"], update=["name"])

    found = Instance.objects.get(pk=key, heard_at=at, stopping=True)
    assert (found.name, found.started_at, found.service_id) == (ODD, at, service.pk)


def test_of_a_row_that_is_there_only_the_columns_named_change() -> None:
    at = datetime(2026, 11, 26, tzinfo=UTC)
    instance = make.instance()
    row = {
        "id": instance.pk, "service_id": instance.service_id, "name": "after", "sdk": "other",
        "started_at": at, "first_heard_at": at, "heard_at": at, "silent_at": at, "stopping": False,
    }  # fmt: skip

    bulk.upsert(Instance, [row], unique=["id"], update=["name"])

    found = Instance.objects.get(pk=instance.pk)
    assert (found.name, found.started_at) == ("after", instance.started_at)


def test_update_keeps_nulls_and_documents_and_leaves_other_rows_alone() -> None:
    at = datetime(2026, 11, 26, tzinfo=UTC)
    one, other = (
        InstanceState.objects.create(instance=make.instance(), epoch=uuid4(), reported_at=at)
        for _ in range(2)
    )
    document = {"alpaca": {"state": "open", "since": None, "note": ODD}}
    row = {"instance_id": one.pk, "epoch": None, "breakers": document, "refused": []}

    bulk.update(InstanceState, [row], key="instance_id")

    one.refresh_from_db()
    other.refresh_from_db()
    assert (one.epoch, one.breakers, one.refused) == (None, document, [])
    assert (other.epoch is None, other.breakers) == (False, {})


def test_what_the_database_refuses_is_an_error_as_from_the_orm() -> None:
    instance = make.instance()

    with pytest.raises(IntegrityError):
        bulk.update(Instance, [{"id": instance.pk, "name": None}], key="id")
