"""Columns of windows, as the database adds them up and gathers them: few rows, quickly decoded."""

from collections.abc import Iterable
from typing import Any

import msgspec
from django.db.models import Aggregate, BigIntegerField, Sum, TextField
from django.db.models.functions import Cast

from holdfast import histogram

# As text: Django's own decoder of JSON takes longer than all the rest.
LATENCY = Cast("latency", TextField())
"""A window's histogram, for `merged`."""


class Gathered(Aggregate):
    """The histograms of all windows of a group, as one text, for `merged`."""

    function = "STRING_AGG"
    template = "%(function)s((%(expressions)s)::text, ',')"
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **kwargs: Any) -> Any:
        kwargs |= {"function": "GROUP_CONCAT", "template": "%(function)s(%(expressions)s)"}
        return self.as_sql(compiler, connection, **kwargs)


def merged(latencies: str) -> dict[str, int]:
    """One histogram of all that are in a text of `LATENCY` or `Gathered`."""
    found: dict[str, int] = {}
    histogram.merge(found, *msgspec.json.decode(f"[{latencies}]"))
    return found


def sums(names: Iterable[str]) -> dict[str, Cast]:
    """What counters add up to, by `sum_` and their names, in whole numbers.

    PostgreSQL would add up to decimals, which take longer to read than to add.
    """
    return {f"sum_{name}": Cast(Sum(name), BigIntegerField()) for name in names}
