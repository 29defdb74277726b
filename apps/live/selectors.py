"""What the wall shows, who may look at it, and which lookers may no longer."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
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
from apps.fleet.models import Dependency, Environment, Service
from apps.health import selectors as health
from apps.live import events, kiosk, rules, switches
from apps.live.rules import trouble
from apps.live.rules.lines import shows_line
from apps.live.trends import Trends
from apps.publication.selectors import newest_number
from apps.telemetry import selectors as telemetry
from apps.telemetry.selectors.convergence import Convergence, converged, convergence

SCOPE = "wall:read"


# -- what is shown -------------------------------------------------------------------------------
def picture(environment_id: int, trends: Trends | None = None) -> dict[str, Any]:
    """The state of one environment, as the wall shows it, worst first.

    Some twenty queries, whatever the number of services; `trends` spares one of them.

    Raises:
        Environment.DoesNotExist: there is no such environment any more.
    """
    frame = overview(environment_id)
    lines = (trends or Trends(environment_id)).read()
    well = trouble.health(health.states(environment_id))
    waiting = {each.service: each.unresolved for each in depths(environment_id)}
    services, dependencies = _keys(environment_id)
    for row in frame["services"]:
        row["id"] = services.get(row["slug"])
        row["letters"] = waiting.get(row["slug"], 0)
        for tile in row["tiles"]:
            name = (row["slug"], tile["dependency"])
            tile["id"] = dependencies.get(tile["dependency"])
            tile["health"] = well.get(tile["dependency"])
            tile["trend"] = lines.get(name) if shows_line(tile, frame["density"]) else None
    frame["summary"]["letters"] = sum(waiting.values())
    frame["summary"]["unwell"] = sum(each["status"] in trouble.UNWELL for each in well.values())
    fires = firing(environment_id)
    frame["summary"]["firing"] = len(fires)
    frame["alerts"] = trouble.alerts_in_order(fires)
    frame["more_alerts"] = len(fires) - len(frame["alerts"])
    frame["events"] = events.newest(environment_id)
    return frame


def _keys(environment_id: int) -> tuple[dict[str, int], dict[str, int]]:
    """Of services and of dependencies, by slug."""
    services, dependencies = (
        dict(table.objects.filter(environment=environment_id).values_list("slug", "pk"))
        for table in (Service, Dependency)
    )
    return services, dependencies


def overview(environment_id: int) -> dict[str, Any]:
    """Services, their breakers and what is switched, worst first; a handful of queries.

    Raises:
        Environment.DoesNotExist: there is no such environment any more.
    """
    environment = Environment.objects.get(pk=environment_id)
    now = clock.now()
    told = convergence(environment_id)
    rows = rules.rows_in_order(_rows(environment_id, told))
    switched = switches.in_force(environment_id)
    return {
        "as_of": rules.stamp(now),
        "environment": {
            "id": environment.pk,
            "slug": environment.slug,
            "name": environment.name,
        },
        "revision": newest_number(environment_id),
        "density": rules.density(sum(len(row["tiles"]) for row in rows)),
        "summary": rules.summary(rows, switched),
        "convergence": rules.pace(converged(told)),
        "switches": switched,
        "services": rows,
    }


def _rows(environment_id: int, services: Iterable[Convergence]) -> list[dict[str, Any]]:
    cells: dict[str, list[telemetry.Cell]] = defaultdict(list)
    traffic = telemetry.traffic(environment_id)
    for cell in traffic.cells:
        cells[cell.service].append(cell)
    requests = {each.service: each for each in traffic.requests}
    return [
        rules.service_row(told, cells[told.service], requests.get(told.service))
        for told in services
    ]


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
