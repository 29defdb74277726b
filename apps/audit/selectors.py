"""Reading the audit log: verification of its chains."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import F

from apps.audit import rules
from apps.audit.models import Chain, Entry

PAGE = 1000  # entries read by one query


@dataclass(frozen=True)
class Verdict:
    """What verification found of one chain."""

    chain: str
    entries: int
    broken: rules.Break | None  # the first break; None: the chain holds


def verify(chain: Chain) -> Verdict:
    """Recompute every hash and link of `chain` and say where it first breaks.

    Opens no transaction, which on SQLite would keep every writer waiting: the head is read first,
    and an entry up to it was committed with it or before, and never changes.
    """
    chain = Chain.objects.get(pk=chain.pk)
    found = rules.breaks(
        _entries_of(chain), chain=str(chain), count=chain.sequence, head=chain.head
    )
    broken = next(found, None) or _beyond_the_head(chain)
    return Verdict(str(chain), chain.sequence, broken)


def _entries_of(chain: Chain) -> Iterator[Entry]:
    """The entries up to the head, in order, in queries that each end soon."""
    rows = Entry.objects.filter(chain=chain, sequence__lte=chain.sequence).order_by("sequence")
    page = list(rows[:PAGE])
    while page:
        yield from page
        page = list(rows.filter(sequence__gt=page[-1].sequence)[:PAGE])


def _beyond_the_head(chain: Chain) -> rules.Break | None:
    """The first entry the chain's head does not know of. Head and entries in one query: an
    entry that is being added this instant comes with its head.
    """
    extra = Entry.objects.filter(chain=chain, sequence__gt=F("chain__sequence"))
    first = extra.order_by("sequence").values_list("sequence", flat=True).first()
    return None if first is None else rules.Break(first, "it was put behind the chain's end")


def verify_all() -> list[Verdict]:
    """The verdict on every chain, the system's first."""
    return [verify(chain) for chain in Chain.objects.order_by("environment_id")]
