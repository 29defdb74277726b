"""Publishing: every change of what services read becomes a numbered revision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import F

from apps.audit import services as audit
from apps.core import bus, clock
from apps.core.actor import Actor
from apps.fleet.models import Dependency, Service
from apps.publication.models import Epoch, Fragment, Head, Part, Revision

_WHERE = ("part", "service", "dependency", "name")


@dataclass(frozen=True)
class Piece:
    """The new state of one piece of an environment; `body` None removes it."""

    part: Part
    body: Any
    service: str = ""
    dependency: str = ""
    name: str = ""

    @property
    def where(self) -> dict[str, str]:
        return {
            "part": self.part.value,
            "service": self.service,
            "dependency": self.dependency,
            "name": self.name,
        }


def publish(
    environment_id: int,
    pieces: Sequence[Piece],
    *,
    actor: Actor,
    reason: str = "",
    restores: int | None = None,
) -> Revision:
    """Make `pieces` the newest revision of the environment and, after the commit, tell everybody.

    Runs in the caller's transaction, after its rows are written and before its audit entry; the
    environment's head stays locked from here to the commit, so that revisions become visible in
    the order of their numbers. Each piece must be built from a row this transaction holds.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("a revision is published inside the change's transaction")
    number = _next_number(environment_id)
    revision = Revision.objects.create(
        environment_id=environment_id,
        number=number,
        epoch=current_epoch(),
        at=clock.now(),
        actor_kind=actor.kind,
        actor_label=actor.label[:150],
        reason=reason,
        restores=restores,
    )
    _supersede(environment_id, pieces)
    Fragment.objects.bulk_create(
        Fragment(environment_id=environment_id, revision=number, body=piece.body, **piece.where)
        for piece in pieces
    )
    bus.announce("published", environment_id=environment_id, revision=number)
    return revision


def use_piece(service: Service, dependency: Dependency) -> Piece:
    """That `service` calls `dependency`, as a piece to publish."""
    return Piece(Part.USE, {}, service=service.slug, dependency=dependency.slug)


def current_epoch() -> Epoch:
    """The epoch in force; the first one is made when it is first asked for."""
    newest = Epoch.objects.order_by("-number").first()
    return newest or _start_epoch(1, "first start")


@transaction.atomic
def new_epoch(*, reason: str, actor: Actor) -> Epoch:
    """Start a new line of history, so that clients follow this database whatever they hold."""
    epoch = _start_epoch(current_epoch().number + 1, reason)
    audit.record(
        "epoch.started",
        epoch,
        actor=actor,
        environment_id=None,
        after={"number": epoch.number},
        reason=reason,
    )
    bus.announce("epoch")
    return epoch


def _start_epoch(number: int, reason: str) -> Epoch:
    try:
        with transaction.atomic():
            return Epoch.objects.create(number=number, started_at=clock.now(), reason=reason)
    except IntegrityError:  # another process started it in this instant
        return Epoch.objects.get(number=number)


def _supersede(environment_id: int, pieces: Sequence[Piece]) -> None:
    """What is current of these pieces is not any more: two statements, however many there are."""
    wanted = {tuple(piece.where.values()) for piece in pieces}
    current = Fragment.objects.current().filter(
        environment_id=environment_id,
        # A superset of the pieces, so that not the whole environment is read.
        **{f"{name}__in": {piece.where[name] for piece in pieces} for name in _WHERE},
    )
    found = [pk for pk, *where in current.values_list("pk", *_WHERE) if tuple(where) in wanted]
    Fragment.objects.filter(pk__in=found).update(is_current=False)


def _next_number(environment_id: int) -> int:
    """Raise the environment's revision by one; the UPDATE locks its row until the commit."""
    head = Head.objects.filter(environment_id=environment_id)
    if not head.update(revision=F("revision") + 1):
        Head.objects.get_or_create(environment_id=environment_id)
        head.update(revision=F("revision") + 1)
    return head.values_list("revision", flat=True).get()
