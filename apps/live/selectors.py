"""What the wall shows, who may look at it, and which lookers may no longer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.utils.crypto import constant_time_compare

from apps.accounts.models import ApiToken, User
from apps.accounts.selectors import scopes_by_environment
from apps.alerts.selectors import firing
from apps.core import clock
from apps.deadletters.selectors import depths
from apps.fleet.models import Environment
from apps.health import selectors as health
from apps.live import events, kiosk, rules, switches, watch
from apps.live.rules import rows, trouble
from apps.live.watch import Watch
from apps.publication.selectors import newest_number
from apps.telemetry.selectors.convergence import Convergence, converged
from apps.telemetry.selectors.recent import Recent

SCOPE = "wall:read"
PRESENT_SECONDS = 1.0  # what was read within it is as good as the newest frame


# -- what is shown -------------------------------------------------------------------------------
def picture(environment_id: int, watch: Watch | None = None) -> dict[str, Any]:
    """The state of one environment, as the wall shows it, worst first.

    Some thirty queries, whatever the number of services; `watch` spares some, and most rows.

    Raises:
        Environment.DoesNotExist: there is no such environment any more.
    """
    watch = watch or Watch(environment_id)
    with watch.lock:
        frame = overview(environment_id, watch)
        well, waiting = _surroundings(watch, frame["services"])
        # Scores read every window of five minutes: of a vast fleet that is too much to read.
        healthy = watch.scores.read(waiting) if frame["density"] != "vast" else {}
    for row in frame["services"]:
        health_of = healthy.get(row["slug"])
        row["score"] = health_of and health_of.score
        row["status"] = health_of and health_of.status
    frame["summary"]["letters"] = sum(waiting.values())
    frame["summary"]["unwell"] = sum(each["status"] in trouble.UNWELL for each in well.values())
    fires = firing(environment_id)
    frame["summary"]["firing"] = len(fires)
    frame["alerts"] = trouble.alerts_in_order(fires)
    frame["more_alerts"] = len(fires) - len(frame["alerts"])
    return frame | {"events": events.newest(environment_id)}


def flipped(environment_id: int) -> dict[str, Any]:
    """What of a picture a flip changes; a handful of queries, whatever the number of services."""
    return _switched(environment_id) | {"events": events.newest(environment_id)}


def _switched(environment_id: int) -> dict[str, Any]:
    revision = newest_number(environment_id)  # first: the switches are of it, or newer
    return {"revision": revision, "switches": switches.in_force(environment_id)}


def service_row(environment_id: int, slug: str, watch: Watch) -> dict[str, Any] | None:
    """One service with all its tiles, however large its environment is; None if there is none."""
    recent = watch.recent
    with watch.lock:
        recent.look(unless_within=PRESENT_SECONDS)
        found = _judged(recent.cells(slug), recent.convergence(slug))
        shown = _rows(recent, found, [None] * len(found))
        _surroundings(watch, shown)
    for row in shown:
        row["score"] = row["status"] = None
    return shown[0] if shown else None


def _surroundings(
    watch: Watch, shown: Iterable[dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Complete these rows; answers how dependencies are, and how many letters services have."""
    lines = watch.trends.read(
        (row["slug"], tile["dependency"]) for row in shown for tile in row["tiles"]
    )
    well = trouble.health(health.states(watch.environment_id))
    waiting = {each.service: each.unresolved for each in depths(watch.environment_id)}
    for row in shown:
        row["letters"] = waiting.get(row["slug"], 0)
        for tile in row["tiles"]:
            tile["health"] = well.get(tile["dependency"])
            tile["trend"] = lines.get((row["slug"], tile["dependency"]))
    return well, waiting


def overview(environment_id: int, watch: Watch | None = None) -> dict[str, Any]:
    """Services, their breakers and what is switched, worst first; a handful of queries.

    Raises:
        Environment.DoesNotExist: there is no such environment any more.
    """
    environment = Environment.objects.get(pk=environment_id)
    now = clock.now()
    recent = (watch or Watch(environment_id)).recent
    recent.look()
    told = recent.convergence()
    services = _judged(recent.cells(), told)
    density = rows.density(sum(len(each.cells) for each in services))
    switched = _switched(environment_id)
    return {
        "as_of": rules.stamp(now),
        "environment": {
            "id": environment.pk,
            "slug": environment.slug,
            "name": environment.name,
        },
        **switched,
        "density": density,
        "summary": rows.summary(services) | rows.switched(switched["switches"]),
        "convergence": rules.pace(converged(told)),
        "services": _rows(recent, services, rows.rooms(services, density)),
    }


def present(environment_id: int) -> dict[str, Any]:
    """The overview, with what this process knows already; the wall's picture if it is of now."""
    here = watch.of(environment_id)
    revision = newest_number(environment_id)
    if kept := here.kept(seconds=PRESENT_SECONDS, revision=revision):
        return kept
    with here.lock:
        return overview(environment_id, here)


def _judged(
    cells: Mapping[str, Iterable[rules.Cell]], told: Iterable[Convergence]
) -> list[rows.Judged]:
    return rows.in_order(rows.judged(each, cells[each.service]) for each in told)


def _rows(
    recent: Recent, services: Sequence[rows.Judged], rooms: Sequence[int | None]
) -> list[dict[str, Any]]:
    placed = list(zip(services, rooms, strict=True))
    recent.time(
        [(cell.service, cell.dependency) for each, room in placed for cell in each.shown(room)],
        [service.slug for service, room in placed if room != 0],
    )
    return [_row(recent, service, room) for service, room in placed]


def _row(recent: Recent, service: rows.Judged, room: int | None) -> dict[str, Any]:
    row = rows.row(service, recent.requests(service.slug), room)
    row["id"] = recent.structure.services[service.slug]
    row["old"] = recent.is_old(service.slug)
    for tile in row["tiles"]:
        tile["id"] = recent.structure.dependencies.get(tile["dependency"])
    return row


# -- who may look --------------------------------------------------------------------------------
@dataclass(frozen=True)
class Grant:
    """Why a viewer may look at an environment's wall: a person's session, or a kiosk's token."""

    environment_id: int
    token_id: int | None = None
    user_id: int | None = None
    session_key: str = ""
    session_hash: str = ""

    @property
    def as_logged(self) -> dict[str, int | None]:
        """Who looks, without what opens the session."""
        return {
            "environment_id": self.environment_id,
            "token_id": self.token_id,
            "user_id": self.user_id,
        }


def environments_of(user: Any) -> list[Environment]:
    """The environments whose wall this person may look at, by name."""
    if not isinstance(user, User) or not user.is_active:
        return []
    allowed = [pk for pk, scopes in scopes_by_environment(user).items() if SCOPE in scopes]
    return list(Environment.objects.filter(pk__in=allowed).order_by("slug"))


def grant_of_session(user: Any, session: SessionBase, slug: str | None) -> Grant | None:
    """The person's leave to look at the environment called `slug`, the first without one."""
    seen = [each for each in environments_of(user) if slug in (None, "", each.slug)]
    if not seen:
        return None
    return Grant(
        environment_id=seen[0].pk,
        user_id=user.pk,
        session_key=session.session_key or "",
        session_hash=session.get(HASH_SESSION_KEY, ""),
    )


def may_look(token: ApiToken) -> bool:
    """Whether it opens the wall; a service's own token does not: the wall shows every service."""
    return SCOPE in token.scopes and token.service_id is None


def grant_of_token(token_id: int, slug: str | None) -> Grant | None:
    """A kiosk's leave to look at its token's environment; None for any other, or a dead token."""
    token = (
        ApiToken.objects.live(clock.now()).select_related("environment").filter(pk=token_id).first()
    )
    if token is None or not may_look(token) or slug not in (None, "", token.environment.slug):
        return None
    return Grant(environment_id=token.environment_id, token_id=token.pk)


def grant_of(
    user: Any, session: SessionBase, cookies: Mapping[str, str], slug: str | None
) -> Grant | None:
    """The leave of who comes with this session and these cookies: a person's, else a kiosk's."""
    found = grant_of_session(user, session, slug)
    if found is not None:
        return found
    token_id = kiosk.token_of(cookies)
    return None if token_id is None else grant_of_token(token_id, slug)


def still_granted(grants: Iterable[Grant]) -> set[Grant]:
    """Those of `grants` that hold now: tokens live, sessions open, people still members.

    Three queries and one per person, however many viewers there are.
    """
    asked = set(grants)
    tokens = _live_tokens({grant.token_id for grant in asked if grant.token_id is not None})
    people = _people({grant.user_id for grant in asked if grant.user_id is not None})
    sessions = _open_sessions({grant.session_key for grant in asked if grant.session_key})
    return {
        grant
        for grant in asked
        if grant.token_id in tokens
        or (grant.session_key in sessions and _is_member(grant, people.get(grant.user_id)))
    }


def _live_tokens(ids: set[int]) -> set[int]:
    if not ids:
        return set()
    tokens = ApiToken.objects.live(clock.now()).filter(pk__in=ids)
    return {token.pk for token in tokens if may_look(token)}


def _people(ids: set[int]) -> dict[int | None, tuple[User, set[int]]]:
    if not ids:
        return {}
    people = User.objects.filter(pk__in=ids, is_active=True)
    return {user.pk: (user, {each.pk for each in environments_of(user)}) for user in people}


def _open_sessions(keys: set[str]) -> set[str]:
    if not keys:
        return set()
    found = Session.objects.filter(session_key__in=keys, expire_date__gt=clock.now())
    return set(found.values_list("session_key", flat=True))


def _is_member(grant: Grant, person: tuple[User, set[int]] | None) -> bool:
    if person is None:
        return False
    user, environments = person
    same = constant_time_compare(grant.session_hash, user.get_session_auth_hash())
    return same and grant.environment_id in environments
