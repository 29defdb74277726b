"""What one process serves: an immutable picture of the published state and of the tokens.

A newer picture replaces the older one in a single assignment, so readers take no lock and never
see half a change.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from apps.core.pace import Pace
from apps.delivery.rules import Document, Origin, merge
from apps.publication.rules import uses_of

MOST_DOCUMENTS = 10_000  # kept per environment; a token may ask for any name


@dataclass(frozen=True, slots=True)
class Piece:
    """One current fragment as delivery holds it."""

    part: str
    service: str
    dependency: str
    name: str
    revision: int
    body: Any

    @property
    def where(self) -> tuple[str, str, str, str]:
        return (self.part, self.service, self.dependency, self.name)


Pieces = Mapping[tuple[str, str, str, str], Piece]


@dataclass(frozen=True, slots=True)
class Place:
    """One environment: its pieces, shared ones and each service's own, and the documents made.

    `documents` is a cache that fills as documents are asked for; two threads that fill one entry
    at the same time put in equal documents.
    """

    origin: Origin
    revision: int
    shared: Pieces
    own: Mapping[str, Pieces]
    published_at: dict[int, str]
    documents: dict[str, Document] = field(default_factory=dict)

    def document(self, service: str) -> Document:
        """The document of any service name, configured or not."""
        found = self.documents.get(service)
        if found is None:
            own = self.own.get(service, {})
            pieces = [*self.shared.values(), *own.values()]
            found = merge(pieces, service, self.origin, published_at=self.published_at)
            if len(self.documents) < MOST_DOCUMENTS:
                self.documents[service] = found
        return found

    def uses(self, service: str) -> frozenset[str]:
        return uses_of(self.own.get(service, {}).values(), service)


@dataclass(frozen=True, slots=True)
class Touched:
    """Which services a set of changed pieces concerns."""

    services: frozenset[str] = frozenset()  # by pieces of their own
    dependencies: frozenset[str] = frozenset()  # whoever uses one of these
    everyone: bool = False

    def concerns(self, service: str, *places: Place) -> bool:
        """Whether the document of `service` changes; `places` are before and after."""
        if self.everyone or service in self.services:
            return True
        return any(self.dependencies & place.uses(service) for place in places)


def touched_by(pieces: Iterable[Piece]) -> Touched:
    """What a change of these pieces reaches."""
    changed = list(pieces)
    shared = [piece.dependency for piece in changed if piece.service == ""]
    return Touched(
        services=frozenset(piece.service for piece in changed) - {""},
        dependencies=frozenset(shared) - {""},
        everyone="" in shared,
    )


def place_of(
    origin: Origin, revision: int, pieces: Iterable[Piece], published_at: dict[int, str]
) -> Place:
    """An environment read anew."""
    empty = Place(origin, revision, {}, {}, published_at)
    return updated(empty, revision, list(pieces), {}, Touched(everyone=True))


def updated(
    place: Place,
    revision: int,
    pieces: list[Piece],
    published_at: dict[int, str],
    touched: Touched,
) -> Place:
    """`place` with some pieces replaced; documents the change does not concern are kept."""
    shared = dict(place.shared)
    own = dict(place.own)
    for piece in pieces:
        if piece.service == "":
            shared[piece.where] = piece
    for service in {piece.service for piece in pieces} - {""}:
        mine = {piece.where: piece for piece in pieces if piece.service == service}
        own[service] = {**own.get(service, {}), **mine}
    newer = replace(
        place,
        revision=revision,
        shared=shared,
        own=own,
        published_at=place.published_at | published_at,
        documents={},
    )
    for service, document in list(place.documents.items()):
        if not touched.concerns(service, place, newer):
            newer.documents[service] = document
    return newer


@dataclass(frozen=True, slots=True)
class Key:
    """A token as its bearer is checked: never the secret, only its verifier."""

    token_id: int
    selector: str
    verifier: str
    environment_id: int
    service: str | None  # slug; None: any service of the environment
    scopes: frozenset[str]
    expires_at: datetime | None

    def is_live(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that answering needs.

    `reached_at` is this process's monotonic clock when it last reached its database.
    """

    epoch: str
    places: Mapping[int, Place]  # by environment id
    keys: Mapping[str, Key]  # by selector
    pace: Pace
    reached_at: float
