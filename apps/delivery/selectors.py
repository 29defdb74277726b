"""Reading what delivery holds in memory: few queries, and only what has changed."""

from collections.abc import Iterable, Mapping

from django.conf import settings
from django.db.models import OuterRef, QuerySet, Subquery

from apps.accounts.models import ApiToken
from apps.core import clock
from apps.delivery.rules import Origin
from apps.delivery.snapshot import Key, Piece, Place, Touched, place_of, touched_by, updated
from apps.fleet.models import Environment
from apps.publication.models import Fragment, Head, Revision


def read_keys(selector: str = "") -> dict[str, Key]:
    """The live tokens by selector; with `selector`, only that one."""
    tokens = ApiToken.objects.live(clock.now())
    if selector:
        tokens = tokens.filter(selector=selector)
    rows = tokens.values_list(
        "pk", "selector", "verifier", "environment_id", "service__slug", "scopes", "expires_at"
    )
    return {
        found: Key(pk, found, verifier, environment_id, service, frozenset(scopes), expires_at)
        for pk, found, verifier, environment_id, service, scopes, expires_at in rows
    }


def read_origins(epoch: str) -> dict[int, Origin]:
    """Every environment, by id."""
    rows = Environment.objects.values_list("pk", "slug", "created_at")
    stale_after = settings.STALE_AFTER_SECONDS
    return {
        pk: Origin(epoch, slug, clock.rfc3339(at, timespec="milliseconds"), stale_after)
        for pk, slug, at in rows
    }


def read_places(
    before: Mapping[int, Place], origins: Mapping[int, Origin]
) -> tuple[dict[int, Place], dict[int, Touched]]:
    """The environments as they are now, and what has changed in which since `before`.

    Of an environment whose head has not moved nothing is read; of one that has, only the
    fragments published since. A head that moved back, or another origin, means another history:
    then all is read anew.
    """
    heads = dict(Head.objects.values_list("environment_id", "revision"))
    places: dict[int, Place] = {}
    touched: dict[int, Touched] = {}
    for environment_id, origin in origins.items():
        head = heads.get(environment_id, 0)
        place = before.get(environment_id)
        if place is None or place.origin != origin or head < place.revision:
            places[environment_id] = _read_place(environment_id, origin, head)
            touched[environment_id] = Touched(everyone=True)
        elif head > place.revision:
            places[environment_id], touched[environment_id] = _advance(environment_id, place, head)
        else:
            places[environment_id] = place
    return places, touched


def _read_place(environment_id: int, origin: Origin, head: int) -> Place:
    pieces, published_at = _read(Fragment.objects.filter(environment_id=environment_id))
    return place_of(origin, _newest(head, pieces), pieces, published_at)


def _advance(environment_id: int, place: Place, head: int) -> tuple[Place, Touched]:
    since = Fragment.objects.filter(environment_id=environment_id, revision__gt=place.revision)
    pieces, published_at = _read(since)
    touched = touched_by(pieces)
    return updated(place, _newest(head, pieces), pieces, published_at, touched), touched


def _newest(head: int, pieces: Iterable[Piece]) -> int:
    """The fragments are read after the head, so they may be of a newer revision than it."""
    return max([head, *(piece.revision for piece in pieces)])


def _read(fragments: QuerySet[Fragment]) -> tuple[list[Piece], dict[int, str]]:
    at = Revision.objects.filter(
        environment_id=OuterRef("environment_id"), number=OuterRef("revision")
    ).values("at")[:1]
    rows = (
        fragments.filter(is_current=True)
        .annotate(published_at=Subquery(at))
        .values_list("part", "service", "dependency", "name", "revision", "body", "published_at")
    )
    pieces: list[Piece] = []
    published_at: dict[int, str] = {}
    for part, service, dependency, name, revision, body, when in rows:
        pieces.append(Piece(part, service, dependency, name, revision, body))
        published_at[revision] = clock.rfc3339(when, timespec="milliseconds")
    return pieces, published_at
