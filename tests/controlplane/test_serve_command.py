"""What `manage.py serve` does to its own process."""

import gc
from collections.abc import Iterator

import pytest

from controlplane.management.commands.serve import spare_the_collector


@pytest.fixture
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
def test_full_rounds_of_the_collector_do_not_look_through_all_of_django() -> None:
    spare_the_collector()

    assert gc.get_freeze_count() > 100_000
    assert len(gc.get_objects(generation=2)) < gc.get_freeze_count() / 10
