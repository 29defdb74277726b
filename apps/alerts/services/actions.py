"""Changes to what Holdfast may switch by itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from apps.alerts.models import Action, AlertEnvironmentSettings, Engagement, Rule
from apps.alerts.rules.bounds import check_action
from apps.alerts.services.alert_rules import check_reach
from apps.audit import services as audit
from apps.core import bus, clock, leases
from apps.core.actor import Actor
from apps.core.db import check_version, get_visible, swap
from apps.core.errors import Conflict, RuleBroken
from apps.fleet.models import NAME, SLUG, Dependency, Service


@transaction.atomic
def create_action(
    rule_id: int,
    *,
    settings: Mapping[str, Any],
    service: Service | None = None,
    reason: str = "",
    actor: Actor,
) -> Action:
    """Have a flag engaged while a rule's alert fires; in shadow unless `mode` is armed.

    Raises:
        NotFound: there is no such rule.
        RuleBroken: values an action cannot have; armed without a reason.
        Forbidden: the actor is bound to one service.
    """
    check_reach(actor)
    rule = get_visible(Rule.objects, actor=actor, pk=rule_id)
    _check(settings, reason, actor.environment_id, is_armed=_is_armed(settings))
    action = Action.objects.create(
        environment_id=rule.environment_id, rule=rule, service=service, **settings
    )
    _tell("action.created", action, actor, reason)
    return action


@transaction.atomic
def update_action(
    action_id: int,
    *,
    version: int | None,
    changes: Mapping[str, Any],
    reason: str = "",
    actor: Actor,
) -> Action:
    """Change an action; arming it needs a reason. What it engaged goes on by the new values.

    Raises:
        NotFound, Stale, Forbidden.
        RuleBroken: values an action cannot have; armed without a reason.
    """
    action = _action(action_id, actor)
    before = action.as_audited()
    arms = _is_armed(changes) and action.mode != Action.Mode.ARMED
    _check({**before, **changes}, reason, action.environment_id, is_armed=arms)
    swap(action, version=version, **changes)
    _tell("action.updated", action, actor, reason, before)
    return action


@transaction.atomic
def delete_action(action_id: int, *, version: int | None, actor: Actor) -> None:
    """Remove an action.

    Raises:
        NotFound, Stale, Forbidden.
        Conflict: a flag is engaged by it: end that first.
    """
    action = _action(action_id, actor)
    check_version(action, version)
    held = Engagement.objects.filter(action=action, outcome=Engagement.Outcome.ENGAGED)
    if held.exists():
        raise Conflict(_("It holds a flag engaged: end the flag first."))
    before = action.as_audited()
    swap(action, version=version)
    Action.objects.filter(pk=action.pk).delete()
    audit.record(
        "action.deleted",
        action,
        actor=actor,
        environment_id=action.environment_id,
        before=before,
    )


@transaction.atomic
def freeze_actions(
    environment_id: int, *, frozen: bool, version: int | None, reason: str, actor: Actor
) -> AlertEnvironmentSettings:
    """Stop every automatic action of an environment, or let them act again.

    While frozen nothing is engaged, renewed or released by itself; leases end as ever.

    Raises:
        NotFound, Stale, Forbidden.
        RuleBroken: no reason.
        Conflict: it is so already.
    """
    row = settings_of(environment_id, actor)
    check_reach(actor)
    leases.check_reason(reason)
    check_version(row, version)
    if row.frozen == frozen:
        raise Conflict(_("It is so already."))
    before = row.as_audited()
    swap(
        row,
        version=version,
        frozen=frozen,
        reason=reason,
        set_by=actor.label[:150],
        set_at=clock.now(),
    )
    audit.record(
        "actions.frozen" if frozen else "actions.unfrozen",
        row,
        actor=actor,
        environment_id=row.environment_id,
        before=before,
        after=row.as_audited(),
        reason=reason,
    )
    bus.announce("alerts", environment_id=row.environment_id)
    return row


def settings_of(environment_id: int, actor: Actor) -> AlertEnvironmentSettings:
    """The environment's row, made when it is first asked for; raises NotFound."""
    if actor.sees(environment_id):
        AlertEnvironmentSettings.objects.get_or_create(pk=environment_id)
    return get_visible(AlertEnvironmentSettings.objects, actor=actor, pk=environment_id)


def _action(action_id: int, actor: Actor) -> Action:
    rows = Action.objects.select_related("rule", "service", "environment")
    action = get_visible(rows, actor=actor, pk=action_id)
    check_reach(actor)
    return action


def _is_armed(settings: Mapping[str, Any]) -> bool:
    return settings.get("mode") == Action.Mode.ARMED


def _check(values: Mapping[str, Any], reason: str, environment_id: int, *, is_armed: bool) -> None:
    if not SLUG.fullmatch(values["flag_key"]):
        raise RuleBroken(str(NAME.message), errors={"flag_key": [str(NAME.message)]})
    check_action(values)
    _check_dependencies(environment_id, values.get("dependencies") or [])
    leases.check_note(reason)
    if is_armed:
        leases.check_reason(reason)  # from now on it switches by itself: say why


def _check_dependencies(environment_id: int, names: Sequence[str]) -> None:
    here = Dependency.objects.filter(environment=environment_id, slug__in=names)
    if missing := sorted(set(names) - set(here.values_list("slug", flat=True))):
        text = _("There is no such dependency in this environment: %(names)s.")
        text %= {"names": ", ".join(missing[:5])}
        raise RuleBroken(text, errors={"dependencies": [text]})


def _tell(
    name: str,
    action: Action,
    actor: Actor,
    reason: str = "",
    before: dict[str, Any] | None = None,
) -> None:
    audit.record(
        name,
        action,
        actor=actor,
        environment_id=action.environment_id,
        before=before,
        after=action.as_audited(),
        reason=reason,
    )
