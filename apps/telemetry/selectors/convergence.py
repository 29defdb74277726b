"""Who runs what was published for its service, how soon it did, and who does not."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from apps.core import clock
from apps.fleet.models import Service
from apps.publication.models import Epoch, Fragment, Revision
from apps.publication.rules import concerning, uses_of
from apps.telemetry import rules
from apps.telemetry.selectors import InstanceStatus, instances_of

Targets = Mapping[str, frozenset[int]]  # by service


@dataclass(frozen=True)
class Refusal:
    """An entry of the document that an instance would not apply."""

    instance: str
    path: str
    revision: int | None
    code: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Share:
    """N of M: how many live instances run what was published for their service."""

    applied: int  # N
    total: int  # M: heard within three report intervals, and not stopping
    silent: int  # not heard since, for up to a day
    stopping: int  # said goodbye within three report intervals
    # Seconds from publishing until the target was applied, of each live instance that was there.
    delays: list[float] = field(default_factory=list)
    # Since when a live instance has lacked something it could have; None: none does.
    behind_since: datetime | None = None

    @property
    def behind_seconds(self) -> float | None:
        if self.behind_since is None:
            return None
        return max(0.0, (clock.now() - self.behind_since).total_seconds())

    @property
    def share(self) -> float | None:
        """N / M; None without a live instance."""
        return self.applied / self.total if self.total else None

    @property
    def p95_delay(self) -> float | None:
        """Seconds within which 95 % of those in `delays` applied it; None if there are none."""
        return rules.nearest_rank(self.delays, 0.95)


@dataclass(frozen=True, kw_only=True)
class Convergence(Share):
    """Of one service."""

    service: str
    target_revision: int
    published_at: datetime | None  # when the target was; None: nothing was ever published
    laggards: list[str]  # names of live instances that do not run it
    silent_names: list[str]
    refused: list[Refusal]


@dataclass(frozen=True, kw_only=True)
class Converged(Share):
    """Of a whole environment."""

    services: int
    converged: int  # services none of whose live instances lags
    refusing: int  # live instances that would not apply something


def convergence(
    environment_id: int, services: Iterable[Service] | None = None
) -> list[Convergence]:
    """N of M for every service of the environment, sorted by name, or for those given."""
    if services is None:
        services = Service.objects.filter(environment_id=environment_id).order_by("slug")
    wanted = targets(environment_id, [service.slug for service in services])
    return convergence_of(environment_id, wanted, instances_of(environment_id))


def convergence_of(
    environment_id: int, targets: Targets, instances: Iterable[InstanceStatus]
) -> list[Convergence]:
    """N of M for the services of `targets`, in their order, with what is known already."""
    epoch = Epoch.objects.order_by("-number").values_list("pk", flat=True).first()
    by_service = defaultdict(list)
    for instance in instances:
        by_service[instance.service].append(instance)
    found = [
        _Standing(service, revisions, by_service[service], epoch)
        for service, revisions in targets.items()
    ]
    published = _published(environment_id, found)
    return [standing.told(published) for standing in found]


def converged(told: Iterable[Convergence]) -> Converged:
    """All services of an environment together."""
    services = list(told)
    behind = [one.behind_since for one in services if one.behind_since is not None]
    return Converged(
        services=len(services),
        converged=sum(not one.laggards for one in services),
        applied=sum(one.applied for one in services),
        total=sum(one.total for one in services),
        silent=sum(one.silent for one in services),
        stopping=sum(one.stopping for one in services),
        refusing=sum(len({refusal.instance for refusal in one.refused}) for one in services),
        delays=[delay for one in services for delay in one.delays],
        behind_since=min(behind, default=None),
    )


class _Piece(NamedTuple):
    """What a target depends on of a fragment: not its body, only whether it has one."""

    part: str
    service: str
    dependency: str
    name: str
    revision: int
    body: bool | None


def targets(environment_id: int, services: Iterable[str]) -> Targets:
    """The revisions of the pieces of each service's document; the newest is its target."""
    columns = ("part", "service", "dependency", "name", "revision", "body__isnull")
    rows = Fragment.objects.current().filter(environment_id=environment_id).values_list(*columns)
    by_service: dict[str, list[_Piece]] = defaultdict(list)
    for *where, is_removed in rows:
        piece = _Piece._make((*where, None if is_removed else True))
        by_service[piece.service].append(piece)
    everywhere = by_service[""]
    found = {}
    for service in services:
        held = everywhere + by_service[service]
        mine = concerning(held, service, uses_of(held, service))
        found[service] = frozenset(piece.revision for piece in mine)
    return found


class _Standing:
    """Where a service's instances stand, before it is known when anything was published."""

    def __init__(
        self,
        service: str,
        revisions: frozenset[int],
        instances: list[InstanceStatus],
        epoch: UUID | None,
    ) -> None:
        self.service = service
        self.revisions = revisions
        self.target = max(revisions, default=0)
        self.epoch = epoch
        self.instances = instances
        self.live = [instance for instance in instances if instance.is_live]
        # The oldest revision that each of those that lag lacks a piece of.
        self.lagging = {one.id: self._lacks(one) for one in self.live if self._lags(one)}

    def _lags(self, instance: InstanceStatus) -> bool:
        return bool(instance.refused) or not rules.has_applied(
            instance.epoch,
            instance.applied_revision,
            current_epoch=self.epoch,
            target=self.target,
        )

    def _lacks(self, instance: InstanceStatus) -> int:
        has = instance.applied_revision or 0 if instance.epoch == self.epoch else 0
        refused = {entry["revision"] for entry in instance.refused}
        lacking = {number for number in self.revisions if number > has or number in refused}
        return min(lacking, default=self.target)

    def told(self, published: Mapping[int, datetime]) -> Convergence:
        silent = [one for one in self.instances if one.is_silent and not one.is_stopping]
        at = published.get(self.target)
        lacking = [
            (one, published.get(self.lagging[one.id]))
            for one in self.live
            if one.id in self.lagging
        ]
        behind = [max(since, one.started_at) for one, since in lacking if since is not None]
        return Convergence(
            service=self.service,
            target_revision=self.target,
            applied=len(self.live) - len(self.lagging),
            total=len(self.live),
            silent=len(silent),
            stopping=sum(one.is_stopping and not one.is_silent for one in self.instances),
            laggards=[one.label for one in self.live if one.id in self.lagging],
            silent_names=[instance.label for instance in silent],
            refused=[_refusal(one, entry) for one in self.live for entry in one.refused],
            published_at=at,
            delays=[] if at is None else list(self._delays(at)),
            behind_since=min(behind, default=None),
        )

    def _delays(self, published_at: datetime) -> Iterator[float]:
        for one in self.live:
            runs_it = one.id not in self.lagging and one.applied_revision == self.target
            if runs_it and one.applied_at is not None and one.started_at <= published_at:
                yield max(0.0, (one.applied_at - published_at).total_seconds())


def _published(environment_id: int, standings: Iterable[_Standing]) -> Mapping[int, datetime]:
    """When the revisions were published that live instances run or lack."""
    wanted = {
        number for one in standings if one.live for number in (one.target, *one.lagging.values())
    }
    rows = Revision.objects.filter(environment_id=environment_id, number__in=wanted)
    return dict(rows.values_list("number", "at"))


def _refusal(instance: InstanceStatus, entry: Mapping[str, Any]) -> Refusal:
    return Refusal(
        instance=instance.label,
        path=entry["path"],
        revision=entry["revision"],
        code=entry["code"],
        detail=entry["detail"],
    )
