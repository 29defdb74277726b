from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from apps.delivery import state
from apps.delivery.state import State


@contextmanager
def new_state() -> Iterator[State]:
    before, state._state = state._state, State()
    try:
        yield state._state
    finally:
        state._state = before


@pytest.fixture(autouse=True)
def known() -> Iterator[State]:
    """The state of a process that has just started."""
    with new_state() as found:
        yield found
