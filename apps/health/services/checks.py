"""Changes to checks by people, and the run they may ask for."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.audit import services as audit
from apps.core import bus, clock, leases
from apps.core.actor import Actor
from apps.core.db import get_visible, swap
from apps.core.errors import Conflict, Forbidden, RuleBroken
from apps.core.sealing import seal
from apps.fleet.models import NAME, SLUG, Dependency
from apps.health import prober, targets
from apps.health.models import Check, Status
from apps.health.probes.outcomes import Outcome, failed
from apps.health.services import heartbeats, parents, runs
from apps.health.targets import Target
from holdfast.spec import Preset

Values = Mapping[str, Any]
EDITABLE = frozenset(
    {
        *("name", "dependency", "address", "secret", "settings", "interval_seconds"),
        *("timeout_seconds", "retry_seconds", "failures_to_confirm", "successes_to_recover"),
        *("slow_seconds", "parent", "enabled"),
    }
)
ASKED = frozenset({"address", "sealed_secret", "settings"})  # what an answer depends on
PATIENCE = 2.0  # seconds beyond its deadline until a test is given up
UNOPENED = gettext_lazy("the secret was sealed under another SECRET_KEY: enter it again")


@transaction.atomic
def create_check(name: str, *, kind: str, values: Values | None = None, actor: Actor) -> Check:
    """Add a check to the actor's environment; it runs at once, unless it is not enabled.

    `values` may hold what is `EDITABLE`; `secret` is kept sealed.

    Raises:
        RuleBroken: a value is not allowed, or the address leads where no check may go.
        Conflict: there is one of that name.
        Forbidden: the actor is bound to one service.
    """
    check = _create(name, kind, values or {}, actor)
    _audit("check.created", check, actor)
    return check


@transaction.atomic
def update_check(check_id: int, *, version: int | None, changes: Values, actor: Actor) -> Check:
    """Change a check; it runs again at once. With something else asked, its status is unknown.

    A secret does not follow a check to another place: with one, a new place needs it again.

    Raises:
        NotFound, Stale, RuleBroken, Conflict, Forbidden.
    """
    check = _check(check_id, actor)
    _judge(check, changes, actor)
    before = check.as_audited()
    written = _columns(changes)
    try:
        with transaction.atomic():
            swap(check, version=version, **written, **_restarted(check, written))
    except IntegrityError as error:
        raise _taken() from error
    bus.announce("health", environment_id=check.environment_id)
    _audit("check.updated", check, actor, before=before)
    return check


@transaction.atomic
def delete_check(check_id: int, *, version: int | None, actor: Actor) -> None:
    """Remove a check with its history; raises NotFound, Stale or Forbidden."""
    check = _check(check_id, actor)
    swap(check, version=version)
    before = check.as_audited()
    bus.announce("health", environment_id=check.environment_id)
    pk = check.pk
    check.delete()
    check.pk = pk  # what the audit entry is about
    _audit("check.deleted", check, actor, before=before)


def run_check(check_id: int, *, reason: str = "", actor: Actor) -> tuple[Check, Outcome]:
    """Run a check now and wait for what comes of it, its timeout at most.

    The result counts like any other; a run under way is superseded. Of a check that is not enabled
    nothing is written down.

    Raises:
        NotFound, Forbidden.
        RuleBroken: it has no address yet or is a heartbeat, or the reason cannot be kept.
    """
    leases.check_note(reason)
    with transaction.atomic():
        check = _check(check_id, actor)
        if check.kind == Check.Kind.HEARTBEAT:
            raise RuleBroken(_("A heartbeat is not asked: its job pings."))
        if errors := targets.address_errors(check.kind, check.address, is_enabled=True):
            raise RuleBroken(_("It cannot be tested."), errors={"address": errors})
        claimed, target = runs.claim(check), runs.target_of(check)
        _audit("check.tested", check, actor, reason=reason)
    outcome = _run(target).slower_than(check.slow_seconds)
    if claimed is not None:
        runs.record(claimed, outcome)
    return Check.objects.select_related("environment", "dependency", "parent").get(
        pk=check.pk
    ), outcome


def _run(target: Target | None) -> Outcome:
    if target is None:
        return failed(str(UNOPENED))
    return prober.current.submit(target).result(timeout=target.timeout + PATIENCE)


def bring_check(
    preset: Preset, dependency: Dependency, *, address: str, actor: Actor
) -> Callable[[], None] | None:
    """Add the check that comes with a preset, unless the dependency has one of that kind.

    Part of a caller's change: it runs in the caller's transaction, and returns what writes the
    audit entry, to be called last; None if there is nothing to do. Without an address it is not
    enabled and asks for one.

    Raises:
        RuleBroken: the address is none of this kind.
    """
    kind = preset.check.kind
    if errors := targets.address_errors(kind, address, is_enabled=False):
        text = _("The check that comes with it cannot ask there.")
        raise RuleBroken(text, errors={"check_address": errors})
    if Check.objects.filter(dependency=dependency, kind=kind).exists():
        return None
    taken = Check.objects.filter(environment=dependency.environment_id, name=dependency.slug)
    name = f"{dependency.slug[:68]}-{kind}" if taken.exists() else dependency.slug
    if kind in {"postgresql", "redis"}:
        options = {"write_probe": preset.check.write_probe or kind == "redis"}
    else:
        options = {}
    values = {
        "dependency": dependency,
        "address": address,
        "enabled": bool(address),
        "settings": options,
    }
    check = _create(name, kind, values, actor)
    return lambda: _audit("check.created", check, actor)


def _check(check_id: int, actor: Actor) -> Check:
    """The actor's check, which a token bound to one service may not touch."""
    rows = Check.objects.select_related("environment", "dependency", "parent")
    check = get_visible(rows, actor=actor, pk=check_id)
    _check_reach(actor)
    return check


def _check_reach(actor: Actor) -> None:
    if actor.service_id is not None:
        raise Forbidden(
            _("This token is bound to one service and cannot change what others share."),
            code="service_bound",
        )


def _create(name: str, kind: str, values: Values, actor: Actor) -> Check:
    _check_reach(actor)
    check = Check(
        environment_id=actor.environment_id,
        name=name,
        kind=kind,
        interval_seconds=settings.HEALTH_CHECK_SECONDS,
    )
    _judge(check, {**values, "name": name}, actor)
    for column, value in _columns(values).items():
        setattr(check, column, value)
    if kind == Check.Kind.HEARTBEAT:  # that none came in time needs no confirmation
        check.failures_to_confirm = values.get("failures_to_confirm", 1)
        check.successes_to_recover = values.get("successes_to_recover", 1)
    check.next_at = _first_at(check) if check.enabled else None
    try:
        with transaction.atomic():
            check.save(force_insert=True)
    except IntegrityError as error:
        raise _taken() from error
    bus.announce("health", environment_id=check.environment_id)
    return check


def _judge(check: Check, changes: Values, actor: Actor) -> None:
    """Raises RuleBroken unless `check` with `changes` in it can be run."""
    errors: dict[str, list[str]] = {
        name: [_("This cannot be changed.")] for name in changes.keys() - EDITABLE
    }
    if not SLUG.fullmatch(changes.get("name", check.name)):
        errors["name"] = [str(NAME.message)]
    dependency = changes.get("dependency")
    if dependency is not None and dependency.environment_id != actor.environment_id:
        errors["dependency"] = [_("There is no such dependency in this environment.")]
    if changes.get("parent") is not None and (text := parents.error(check, changes["parent"])):
        errors["parent"] = [text]
    errors |= targets.option_errors(check.kind, changes.get("settings", check.settings))
    errors |= _place_errors(check, changes)
    if errors:
        raise RuleBroken(_("The check cannot be run like that."), errors=errors)


def _place_errors(check: Check, changes: Values) -> dict[str, list[str]]:
    address = changes.get("address", check.address)
    is_enabled = changes.get("enabled", check.enabled)
    if found := targets.address_errors(check.kind, address, is_enabled=is_enabled):
        return {"address": found}
    secret = changes.get("secret")
    if secret is not None and (len(secret) > targets.LONGEST_SECRET or "\0" in secret):
        return {"secret": [_("A secret has at most 2000 characters, and no NUL.")]}
    moves = bool(check.address) and address != check.address
    if moves and check.has_secret and "secret" not in changes:
        text = _("The address is another one: enter the secret again, or null for none.")
        return {"secret": [text]}
    return {}


def _first_at(check: Check) -> datetime:
    """When it is due first, or after a change: at once, a heartbeat when it is missed."""
    now = clock.now()
    return heartbeats.next_miss(check, now) if check.kind == Check.Kind.HEARTBEAT else now


def _columns(values: Values) -> dict[str, Any]:
    """What becomes of the row: the secret sealed, all else as it is."""
    columns = {name: value for name, value in values.items() if name != "secret"}
    if "secret" in values:
        columns["sealed_secret"] = seal(values["secret"] or "")
    return columns


def _restarted(check: Check, written: Mapping[str, Any]) -> dict[str, Any]:
    """The runner's columns after a change: due now, and forgotten if something else is asked."""
    now = clock.now()
    is_enabled = written.get("enabled", check.enabled)
    for name in written.keys() & {"interval_seconds", "settings"}:
        setattr(check, name, written[name])
    columns: dict[str, Any] = {"claim": None, "next_at": _first_at(check) if is_enabled else None}
    if is_enabled and not ASKED & written.keys():
        return columns
    if check.status != Status.UNKNOWN:
        runs.move(check, Status.UNKNOWN, detail=_("changed by a person"), at=now)
        columns["since"] = now
    return columns | {
        "status": Status.UNKNOWN.value,
        "observed_at": None,
        "latency_seconds": None,
        "recent": "",
        "raw": "",
        "is_flapping": False,
        "because_of": "",
        "detail": "",
        "facts": {},
        "started_at": None,
        "started_run": None,
    }


def _taken() -> Conflict:
    text = _("There is already a check of this name in this environment.")
    return Conflict(text, errors={"name": [text]}, code="exists")


def _audit(
    action: str,
    check: Check,
    actor: Actor,
    *,
    before: dict[str, Any] | None = None,
    reason: str = "",
) -> None:
    audit.record(
        action,
        check,
        actor=actor,
        environment_id=check.environment_id,
        before=before,
        after=None if action == "check.deleted" else check.as_audited(),
        reason=reason,
    )
