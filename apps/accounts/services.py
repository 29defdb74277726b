"""Changes to people, roles and tokens."""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils.translation import gettext as _

from apps.accounts import rules, selectors, uses
from apps.accounts.models import ApiToken, FailedLogins, Membership, User
from apps.audit import services as audit
from apps.core import bus, clock
from apps.core.actor import SCOPES, Actor
from apps.core.db import get_visible, swap
from apps.core.errors import Conflict, Forbidden, NotFound, RuleBroken
from apps.fleet.models import Service

LAST_USE_GRAIN = timedelta(minutes=1)  # a busy token writes its row at most this often


@transaction.atomic
def create_token(
    name: str,
    *,
    scopes: list[str],
    service: Service | None = None,
    expires_at: datetime | None = None,
    actor: Actor,
) -> tuple[ApiToken, str]:
    """Make a token for the actor's environment; returns it with its text, shown only now.

    Raises:
        RuleBroken: no or unknown scopes, an end in the past, a service of elsewhere.
        Forbidden: a token may not give what its maker does not have, nor leave its service.
    """
    _check_token(scopes, service, expires_at, actor)
    selector, secret = rules.new_token()
    token = ApiToken.objects.create(
        environment_id=actor.environment_id,
        service=service,
        name=name,
        selector=selector,
        verifier=rules.verifier_of(secret),
        scopes=sorted(set(scopes)),
        created_by=actor.label,
        expires_at=expires_at,
    )
    audit.record(
        "token.created",
        token,
        actor=actor,
        environment_id=token.environment_id,
        after=token.as_audited(),
    )
    bus.announce("tokens")
    return token, f"hf_{selector}_{secret}"


def _check_token(
    scopes: list[str], service: Service | None, expires_at: datetime | None, actor: Actor
) -> None:
    errors: dict[str, list[str]] = {}
    if not scopes:
        errors["scopes"] = [_("Name at least one scope.")]
    if unknown := rules.unknown_scopes(scopes):
        text = _("Unknown: %(names)s. Known scopes: %(known)s.")
        known = ", ".join(sorted(SCOPES))
        errors["scopes"] = [text % {"names": ", ".join(unknown), "known": known}]
    if expires_at is not None and expires_at <= clock.now():
        errors["expires_at"] = [_("This is in the past.")]
    if service is not None and service.environment_id != actor.environment_id:
        errors["service"] = [_("There is no such service in this environment.")]
    if errors:
        raise RuleBroken(_("The token was not made."), errors=errors)
    if actor.kind == "token":
        # People may make service tokens with scopes of machines; a token only hands on its own.
        beyond = bool(set(scopes) - actor.scopes) or _outlives(expires_at, actor)
        outside = actor.service_id is not None and (
            service is None or service.pk != actor.service_id
        )
        if beyond or outside:
            raise Forbidden(_("A token can only make tokens that may do less than itself."))


def _outlives(expires_at: datetime | None, actor: Actor) -> bool:
    """Whether a token of that end would be there when the one that makes it is not."""
    end = ApiToken.objects.values_list("expires_at", flat=True).get(pk=actor.id)
    return end is not None and (expires_at is None or expires_at > end)


@transaction.atomic
def revoke_token(token_id: int, *, version: int | None, reason: str, actor: Actor) -> ApiToken:
    """End a token: every process refuses it within two seconds and cuts its streams.

    Raises:
        NotFound, Stale, Conflict: not there; changed meanwhile; already revoked.
    """
    token = get_visible(ApiToken.objects, actor=actor, pk=token_id)
    if token.revoked_at is not None:
        raise Conflict(_("This token is already revoked."))
    before = token.as_audited()
    swap(token, version=version, revoked_at=clock.now())
    audit.record(
        "token.revoked",
        token,
        actor=actor,
        environment_id=token.environment_id,
        before=before,
        after=token.as_audited(),
        reason=reason,
    )
    bus.announce("tokens")
    return token


def note_use(token: ApiToken) -> None:
    """Remember when the token was last used, to the minute."""
    if token.last_used_at is None or token.last_used_at < clock.now() - LAST_USE_GRAIN:
        note_uses([token.pk])


def remember_uses(token_ids: Collection[int]) -> None:
    """Have these tokens' use noted within a minute or so, without waiting for the database."""
    uses.current.add(token_ids)


def write_uses() -> None:
    """Note the uses remembered; what a loop of every web process does."""
    uses.current.write(note_uses)


def note_uses(token_ids: list[int]) -> None:
    """Remember that these tokens were used just now; one UPDATE, at most one a minute each."""
    now = clock.now()
    idle = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USE_GRAIN)
    ApiToken.objects.filter(idle, pk__in=token_ids).update(last_used_at=now)


@transaction.atomic
def create_user(username: str, *, password: str, is_superuser: bool = False, actor: Actor) -> User:
    """Add a person; raises RuleBroken for a weak password or no name, Conflict for one in use."""
    _check_username(username)
    user = User(username=username, is_staff=True, is_superuser=is_superuser)
    _set_password(user, password)
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError as error:
        text = _("There is already somebody of this name.")
        raise Conflict(text, errors={"username": [text]}) from error
    audit.record("user.created", user, actor=actor, environment_id=None, after=user.as_audited())
    return user


@transaction.atomic
def set_password(user_id: int, *, password: str, actor: Actor) -> User:
    """Give a person a new password; their sessions end with it."""
    user = _user(user_id)
    _set_password(user, password)
    user.save(update_fields=["password"])
    audit.record("user.password_set", user, actor=actor, environment_id=None)
    return user


@transaction.atomic
def set_active(user_id: int, *, is_active: bool, actor: Actor) -> User:
    """Let a person in or keep them out; nobody can lock themselves out."""
    user = _user(user_id)
    if str(user.pk) == actor.id and actor.kind == "user" and not is_active:
        raise Conflict(_("You cannot deactivate yourself; ask another administrator."))
    before = user.as_audited()
    User.objects.filter(pk=user.pk).update(is_active=is_active)
    user.is_active = is_active
    action = "user.activated" if is_active else "user.deactivated"
    audit.record(
        action, user, actor=actor, environment_id=None, before=before, after=user.as_audited()
    )
    return user


@transaction.atomic
def note_failed_login(name: str, *, address: str) -> None:
    """Count it for the name and for the address. People's guesses are no changes: not audited."""
    now = clock.now()
    FailedLogins.objects.filter(since__lte=now - selectors.FAILURES_COUNT_FOR).delete()
    for key in sorted({rules.failures_key(name, address), rules.failures_key("", address)}):
        FailedLogins.objects.get_or_create(key=key, defaults={"since": now})
        FailedLogins.objects.filter(key=key).update(count=F("count") + 1)


def forget_failed_logins(name: str, *, address: str) -> None:
    """Somebody of this name has logged in from there; the address itself is not forgiven."""
    FailedLogins.objects.filter(key=rules.failures_key(name, address)).delete()


@transaction.atomic
def grant_role(
    user_id: int, *, environment_id: int, role: str, version: int | None = None, actor: Actor
) -> Membership:
    """Give a person a role in an environment, in place of the one they had there.

    Raises:
        NotFound, RuleBroken: no such person; no such role.
        Stale: somebody changed the role after `version`; nothing is written.
        Conflict: somebody gave them their first role there in this very moment.
    """
    user = _user(user_id)
    if role not in rules.ROLE_SCOPES:
        raise RuleBroken(_("There is no such role."), errors={"role": [_("Unknown role.")]})
    membership = Membership.objects.filter(user=user, environment_id=environment_id).first()
    before = membership.as_audited() if membership else None
    if membership is None:
        membership = _create_membership(user, environment_id, role)
    else:
        swap(membership, version=version, role=role)
    audit.record(
        "role.granted",
        membership,
        actor=actor,
        environment_id=environment_id,
        before=before,
        after=membership.as_audited(),
    )
    return membership


def _create_membership(user: User, environment_id: int, role: str) -> Membership:
    try:
        with transaction.atomic():
            return Membership.objects.create(user=user, environment_id=environment_id, role=role)
    except IntegrityError as error:
        text = _("Somebody gave this person a role here in this very moment. Look again.")
        raise Conflict(text, code="exists") from error


@transaction.atomic
def withdraw_role(membership_id: int, *, version: int | None = None, actor: Actor) -> None:
    """Take a person's role in an environment away; raises NotFound or Stale."""
    membership = get_visible(Membership.objects, actor=actor, pk=membership_id)
    before = membership.as_audited()
    swap(membership, version=version)  # nobody changes it between the look and the removal
    Membership.objects.filter(pk=membership.pk).delete()
    audit.record(
        "role.withdrawn",
        membership,
        actor=actor,
        environment_id=membership.environment_id,
        before=before,
    )


def _user(user_id: int) -> User:
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise NotFound(_("There is no such person."))
    return user


def _check_username(username: str) -> None:
    try:
        User._meta.get_field("username").clean(username, None)
    except ValidationError as error:
        raise RuleBroken(
            _("This is no user name."), errors={"username": list(error.messages)}
        ) from error


def _set_password(user: User, password: str) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise RuleBroken(
            _("This password is too weak."), errors={"password": list(error.messages)}
        ) from error
    user.set_password(password)
