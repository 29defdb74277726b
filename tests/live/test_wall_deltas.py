"""What changed between two frames, put in, is the second frame: any two."""

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some

from apps.live.rules.deltas import difference
from tests.live.sockets import patched

names = some.sampled_from(["a", "b", "checkout", "constructor", "payments-api"])
values = some.one_of(
    some.none(), some.booleans(), some.integers(0, 3), some.text(max_size=2), some.just([1, {}])
)


def listed(key: str, **members: some.SearchStrategy[Any]) -> some.SearchStrategy[Any]:
    each = some.fixed_dictionaries({key: names, **members})
    return some.lists(each, unique_by=lambda one: one[key], max_size=4)


tiles = listed("dependency", condition=values, trend=values)
services = listed("slug", applied=values, tiles=tiles)
frames = some.fixed_dictionaries(
    {"sequence": some.integers(1, 9), "switches": values, "services": services}
)


@given(frames, frames)
@settings(max_examples=100, deadline=None)
def test_what_changed_makes_the_second_frame_of_the_first(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    was = copy.deepcopy(before)

    change = json.loads(json.dumps(difference(before, after)))

    assert patched(before, change) == after
    assert before == was


@given(frames, frames, frames)
@settings(max_examples=30, deadline=None)
def test_one_after_the_other_or_all_at_once_is_the_same(
    first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]
) -> None:
    step_by_step = patched(patched(first, difference(first, second)), difference(second, third))

    assert step_by_step == patched(first, difference(first, third)) == third


@given(frames)
@settings(max_examples=20, deadline=None)
def test_nothing_is_sent_of_what_stayed(frame: dict[str, Any]) -> None:
    assert difference(frame, copy.deepcopy(frame)) == {}
