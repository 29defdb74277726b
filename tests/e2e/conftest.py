"""Files that take longest begin first, so that nobody waits for one at the end."""

import pytest

LONGEST_FIRST = (
    *("test_outages", "test_serve", "test_closed_loop", "test_main_job", "test_restarts"),
    *("test_distributed", "test_dead_letters", "test_demo"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By files, which stay together."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
