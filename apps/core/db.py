"""Reading what an actor may see, and changing a row nobody else has changed meanwhile."""

from typing import Any, TypeVar

from django.db import models
from django.db.models import F
from django.utils.translation import gettext as _

from apps.core.actor import Actor
from apps.core.errors import NotFound, Stale

BATCH = 500  # rows of one transaction


class Versioned(models.Model):
    """A row that people edit: `version` grows by one with each change and is its ETag."""

    version = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        abstract = True


V = TypeVar("V", bound=Versioned)
M = TypeVar("M", bound=models.Model)


def get_visible(rows: models.Manager[M] | models.QuerySet[M], *, actor: Actor, **lookup: Any) -> M:
    """The one row that matches `lookup` among those the actor can see.

    Raises:
        NotFound: there is none, or it is another environment's.
    """
    seen: models.QuerySet[M] = rows.visible_to(actor)  # type: ignore[union-attr]  # of our querysets
    row = seen.filter(**lookup).first()
    if row is None:
        raise NotFound(_("There is no such thing in this environment."))
    return row


def visible_to(rows: models.QuerySet[Any], actor: Actor) -> models.QuerySet[Any]:
    """The rows the actor may see; all of them where the table belongs to no environment."""
    if not hasattr(rows, "visible_to"):
        return rows
    seen: models.QuerySet[Any] = rows.visible_to(actor)
    return seen


def check_version(row: Versioned, version: int | None) -> None:
    """Raises Stale if the caller looked at another version; None: whatever it is now.

    For what is judged before the swap: nobody is told "it has ended" of a state they have not seen.
    """
    if version is not None and version != row.version:
        raise _stale(row)


def swap(row: V, *, version: int | None = None, **changes: Any) -> None:
    """Write `changes` if the row is still at `version` (the loaded one by default).

    A compare-and-swap: one UPDATE that matches the version, so that it holds on SQLite and
    PostgreSQL alike and needs no lock clause. `row` is up to date afterwards.

    Raises:
        Stale: the row has moved on; nothing is written, and the error carries it as it is now.
    """
    expected = row.version if version is None else version
    rows = type(row)._default_manager.filter(pk=row.pk, version=expected)
    if rows.update(version=F("version") + 1, **changes) != 1:
        raise _stale(type(row)._default_manager.filter(pk=row.pk).first())
    for name, value in changes.items():
        setattr(row, name, value)
    row.version = expected + 1


def delete_in_batches(rows: models.QuerySet[Any]) -> None:
    """Delete them all in small transactions; safe to run in parallel.

    A row that does not belong to them any more when its turn comes stays.
    """
    while found := list(rows.values_list("pk", flat=True)[:BATCH]):
        rows.filter(pk__in=found).delete()


def _stale(newer: models.Model | None) -> Stale:
    text = _("It was changed after you looked. Look at the newer state and try again.")
    return Stale(text, row=newer)
