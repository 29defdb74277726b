"""What is different between two frames, so that a viewer is sent only that. No Django.

A change names the members that differ, each with its new value; of a list of services or of tiles
it holds `set`, by name what differs of each, and `order`, all names, if those or their order do.
Members never go away. The wall's page puts changes in: `static/js/wall/deltas.js`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

NAMED_BY = {"services": "slug", "tiles": "dependency"}  # lists that are told apart by this member


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The change that makes `after` of `before`."""
    return {
        name: _listed(before.get(name, ()), value, NAMED_BY[name]) if name in NAMED_BY else value
        for name, value in after.items()
        if name not in before or before[name] != value
    }


def _listed(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], key: str
) -> dict[str, Any]:
    had = {each[key]: each for each in before}
    nothing: Mapping[str, Any] = {}
    changed = {
        each[key]: difference(had.get(each[key], nothing), each)
        for each in after
        if had.get(each[key]) != each
    }
    order = [each[key] for each in after]
    is_moved = order != [each[key] for each in before]
    return {"set": changed} | ({"order": order} if is_moved else {})
