"""What was changed lately, and the page on which each change is undone."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from django.urls import reverse

from apps.audit.models import Entry
from apps.core import clock
from apps.core.actor import Actor
from apps.degradation.models import Flag
from apps.policies.models import Override
from apps.publication.models import Revision

LATELY = timedelta(minutes=15)
READ = 60  # entries; what one revision did together is one of at most MOST changes
MOST = 12
MOST_NAMED = 6  # things one change was done to; the rest is counted
SETTINGS = ("config.", "revision.restored")  # how the names of what changes settings begin


@dataclass(frozen=True)
class LateChange:
    """What was done at once; `undo` is the address of the page that takes it back, if there is."""

    entry: Entry
    labels: list[str]  # of all the things it was done to
    is_late: bool  # of the last quarter of an hour
    undo: str

    @property
    def named(self) -> list[str]:
        return self.labels[:MOST_NAMED]

    @property
    def more(self) -> int:
        return len(self.labels) - len(self.named)


def latest(actor: Actor, environment_id: int) -> list[LateChange]:
    """The environment's newest changes, newest first; a handful of queries, however many."""
    rows = Entry.objects.visible_to(actor).filter(chain__environment_id=environment_id)
    together = [list(group) for _what, group in groupby(rows.order_by("-sequence")[:READ], _act)]
    since = clock.now() - LATELY
    late = [group[0] for group in together[:MOST] if group[0].at >= since]
    undo = _ways_back(late, actor, environment_id)
    return [
        LateChange(
            group[0],
            [entry.object_label for entry in group],
            group[0] in late,
            undo(group[0]) if group[0] in late else "",
        )
        for group in together[:MOST]
    ]


def _act(entry: Entry) -> tuple[object, ...]:
    """Entries of one revision and action belong together; others stand alone."""
    return (entry.revision, entry.action) if entry.revision is not None else (entry.pk,)


def _ways_back(entries: list[Entry], actor: Actor, environment_id: int) -> Callable[[Entry], str]:
    """Where each of the entries is undone; nowhere what has been undone or done again since."""
    flags = Flag.objects.filter(pk__in=_ids(entries, "flag"))
    there = set(flags.values_list("pk", flat=True))
    engaged = set(flags.engaged(clock.now()).values_list("pk", flat=True))
    overrides = Override.objects.filter(pk__in=_ids(entries, "override"))
    held = set(overrides.in_force(clock.now()).values_list("pk", flat=True))
    before = _revisions_before(entries, environment_id)
    # By what was done: the scope it takes to undo it, what must hold, and the page.
    ways: dict[str, tuple[str, set[int], str]] = {
        "flag.engaged": ("flags:write", engaged, "admin:degradation_flag_end"),
        "flag.ended": ("flags:write", there - engaged, "admin:degradation_flag_engage"),
        "override.engaged": ("overrides:write", held, "admin:policies_override_end"),
    }

    def undo(entry: Entry) -> str:
        if entry.outcome != Entry.Outcome.OK or entry.actor_kind == "automation":
            return ""
        scope, open_to, page = ways.get(entry.action, ("", set(), ""))
        if page and actor.may(scope) and int(entry.object_id) in open_to:
            return reverse(page, args=[entry.object_id])
        if entry.revision in before and actor.may("config:write"):
            return reverse("admin:publication_revision_rollback", args=[before[entry.revision]])
        return ""

    return undo


def _ids(entries: list[Entry], kind: str) -> list[int]:
    return [int(entry.object_id) for entry in entries if entry.object_type == kind]


def _revisions_before(entries: list[Entry], environment_id: int) -> dict[int | None, int]:
    """By the number of a revision that changed settings: the key of the one before it."""
    changed = (entry for entry in entries if entry.action.startswith(SETTINGS))
    numbers = {entry.revision for entry in changed if entry.revision is not None}
    known = Revision.objects.filter(
        environment_id=environment_id, number__in=[number - 1 for number in numbers]
    )
    keys = dict(known.values_list("number", "pk"))
    return {number: keys[number - 1] for number in numbers if number - 1 in keys}
