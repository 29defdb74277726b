"""Tests that need the longest begin first, so that nobody waits for one at the end."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By files, which stay together: first those with a test that may take longer than usual."""
    long = {item.path for item in items if item.get_closest_marker("timeout")}
    items.sort(key=lambda item: item.path not in long)
