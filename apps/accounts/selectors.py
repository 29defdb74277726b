"""Who a person or a token is, as an actor."""

from datetime import timedelta
from typing import TypedDict

from django.http import HttpRequest
from django.utils.translation import gettext as _

from apps.accounts import rules
from apps.accounts.models import ApiToken, FailedLogins, Membership, User
from apps.core import clock
from apps.core.actor import SCOPES, SYSTEM_SCOPE, Actor
from apps.core.errors import NotFound
from apps.fleet.models import Environment

FAILURES_COUNT_FOR = timedelta(minutes=15)
MOST_FAILURES = 10  # of one name from one address
MOST_OF_ADDRESS = 100


Grants = dict[int, frozenset[str]]  # scopes by environment


def scopes_by_environment(user: User) -> Grants:
    """What the person may do, per environment they see."""
    if user.is_superuser:
        everything = SCOPES | {SYSTEM_SCOPE}
        return dict.fromkeys(Environment.objects.values_list("pk", flat=True), everything)
    rows = Membership.objects.filter(user=user).values_list("environment_id", "role")
    return {environment_id: rules.ROLE_SCOPES[role] for environment_id, role in rows}


class Provenance(TypedDict):
    """What an actor carries of the request."""

    request_id: str
    address: str


def actor_of_user(
    user: User,
    *,
    source: str,
    environment_id: int | None = None,
    request_id: str = "",
    address: str = "",
) -> Actor:
    """The person as an actor, in one environment or, with None, in all they see.

    In several environments the scopes are those they have in every one of them.

    Raises:
        NotFound: the person is no member of that environment.
    """
    provenance: Provenance = {"request_id": request_id, "address": address}
    return _actor(user, scopes_by_environment(user), environment_id, source, provenance)


def provenance(request: HttpRequest) -> Provenance:
    """Request id and address of the caller, for the audit log."""
    return {
        "request_id": request.headers.get("X-Request-ID", "")[:64],
        "address": request.META.get("REMOTE_ADDR", "")[:45],
    }


def admin_actor(request: HttpRequest, environment_id: int | None) -> Actor:
    """Who acts in the admin; given to `core.admin.use_actors`."""
    if not isinstance(request.user, User):
        raise NotFound(_("Log in first."))
    grants = _grants_of(request, request.user)
    return _actor(request.user, grants, environment_id, "admin", provenance(request))


def _grants_of(request: HttpRequest, user: User) -> Grants:
    """What the person may do, read once a request: a page asks for every environment they see."""
    known: tuple[int, Grants] | None = getattr(request, "_holdfast_grants", None)
    if known is None or known[0] != user.pk:
        known = (user.pk, scopes_by_environment(user))
        setattr(request, "_holdfast_grants", known)  # noqa: B010 – no attribute the stubs know
    return known[1]


def _actor(
    user: User,
    grants: Grants,
    environment_id: int | None,
    source: str,
    provenance: Provenance,
) -> Actor:
    if environment_id is not None:
        if environment_id not in grants:
            raise NotFound(_("There is no such environment among yours."))
        grants = {environment_id: grants[environment_id]}
    scopes = frozenset.intersection(*grants.values()) if grants else frozenset()
    if user.is_superuser:
        scopes |= {SYSTEM_SCOPE}
    return Actor(
        kind="user",
        id=str(user.pk),
        label=user.get_username(),
        environment_ids=frozenset(grants),
        scopes=scopes,
        source=source,
        **provenance,
    )


def actor_of_token(token: ApiToken, *, request: HttpRequest) -> Actor:
    """The token as an actor in its environment."""
    return Actor(
        kind="token",
        id=str(token.pk),
        label=token.name,
        environment_ids=frozenset({token.environment_id}),
        scopes=frozenset(token.scopes),
        source="api",
        service_id=token.service_id,
        **provenance(request),
    )


def may_log_in(name: str, *, address: str) -> bool:
    """Whether a password is looked at, after the logins that failed of late.

    By name and address together, so that nobody locks an operator out from elsewhere.
    """
    mine, everybody = rules.failures_key(name, address), rules.failures_key("", address)
    lately = FailedLogins.objects.filter(since__gt=clock.now() - FAILURES_COUNT_FOR)
    counts = dict(lately.filter(key__in=[mine, everybody]).values_list("key", "count"))
    return counts.get(mine, 0) < MOST_FAILURES and counts.get(everybody, 0) < MOST_OF_ADDRESS


def find_token(text: str) -> ApiToken | None:
    """The live token this text is, or None: unknown, wrong secret, expired or revoked."""
    parts = rules.split_token(text)
    if parts is None:
        return None
    selector, secret = parts
    token = ApiToken.objects.live(clock.now()).filter(selector=selector).first()
    if token is None or not rules.is_secret(secret, token.verifier):
        return None
    return token
