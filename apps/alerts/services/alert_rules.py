"""Changes to rules, and the ones every environment begins with."""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from apps.alerts.models import Alert, AlertEnvironmentSettings, Rule
from apps.alerts.rules.bounds import check_rule
from apps.alerts.rules.defaults import BLANK, DEFAULTS
from apps.alerts.services import judging
from apps.audit import services as audit
from apps.core import bus, leases
from apps.core.actor import Actor
from apps.core.db import check_version, get_visible, swap
from apps.core.errors import Conflict, Forbidden, RuleBroken
from apps.fleet.models import NAME, SLUG, Dependency, Service


def ensure_defaults(environment_id: int) -> None:
    """Add the default rules an environment does not have, and its freeze switch.

    Safe to run twice or in parallel.
    """
    rows = Rule.objects.filter(environment_id=environment_id, key__in=DEFAULTS)
    known = set(rows.values_list("key", flat=True))
    missing = [
        Rule(environment_id=environment_id, key=key, **settings)
        for key, settings in DEFAULTS.items()
        if key not in known
    ]
    if missing:
        Rule.objects.bulk_create(missing, ignore_conflicts=True)
        switch = AlertEnvironmentSettings(environment_id=environment_id)
        AlertEnvironmentSettings.objects.bulk_create([switch], ignore_conflicts=True)


@transaction.atomic
def create_rule(
    key: str,
    *,
    kind: str,
    settings: Mapping[str, Any],
    service: Service | None = None,
    dependency: Dependency | None = None,
    actor: Actor,
) -> Rule:
    """Add a rule to the actor's environment.

    Raises:
        RuleBroken: no name, or values a rule of this kind cannot have.
        Conflict: there is one of that key.
        Forbidden: the actor is bound to one service.
    """
    check_reach(actor)
    if not SLUG.fullmatch(key):
        raise RuleBroken(str(NAME.message), errors={"key": [str(NAME.message)]})
    values = {**BLANK, **settings}
    check_rule(kind, values)
    try:
        with transaction.atomic():
            rule = Rule.objects.create(
                environment_id=actor.environment_id,
                key=key,
                kind=kind,
                service=service,
                dependency=dependency,
                **values,
            )
    except IntegrityError as error:
        text = _("There is already one called %(slug)s.") % {"slug": key}
        raise Conflict(text, errors={"key": [text]}, code="exists") from error
    _tell("rule.created", rule, actor)
    return rule


@transaction.atomic
def update_rule(
    rule_id: int, *, version: int | None, changes: Mapping[str, Any], actor: Actor
) -> Rule:
    """Change what a rule goes by; open alerts are judged by that at the next evaluation.

    Raises:
        NotFound, Stale, Forbidden.
        RuleBroken: values a rule of this kind cannot have.
    """
    rule = _rule(rule_id, actor)
    return _write("rule.updated", rule, version, changes, actor)


@transaction.atomic
def restore_rule(rule_id: int, *, version: int | None, reason: str = "", actor: Actor) -> Rule:
    """Bring a default rule back to what every environment begins with.

    Raises:
        NotFound, Stale, Forbidden.
        RuleBroken: a reason that cannot be kept.
        Conflict: it is no default rule.
    """
    rule = _rule(rule_id, actor)
    leases.check_note(reason)
    default = DEFAULTS.get(rule.key)
    if default is None or default["kind"] != rule.kind:
        raise Conflict(_("This rule is none of the defaults."))
    changes = {name: value for name, value in default.items() if name != "kind"}
    changes |= {"service": None, "dependency": None}
    return _write("rule.restored", rule, version, changes, actor, reason)


@transaction.atomic
def delete_rule(rule_id: int, *, version: int | None, actor: Actor) -> None:
    """Remove a rule; its open alerts are resolved, and what it engaged is released.

    Raises:
        NotFound, Stale, Forbidden.
        Conflict: it is a default rule, which can only be disabled.
    """
    rule = _rule(rule_id, actor)
    check_version(rule, version)
    if rule.is_default:
        raise Conflict(_("Every environment has this rule: disable it instead."))
    before = rule.as_audited()
    swap(rule, version=version, enabled=False)
    alerts = Alert.objects.filter(rule=rule).open()
    for alert in alerts.select_related("rule", "service", "environment").order_by("pk"):
        judging.close(alert, _("The rule was removed."))
    Rule.objects.filter(pk=rule.pk).delete()
    audit.record(
        "rule.deleted", rule, actor=actor, environment_id=rule.environment_id, before=before
    )


def check_reach(actor: Actor) -> None:
    """Raises Forbidden for a token of one service: rules and channels are everybody's."""
    if actor.service_id is not None:
        raise Forbidden(
            _("This token is bound to one service and cannot change what others share."),
            code="service_bound",
        )


def _rule(rule_id: int, actor: Actor) -> Rule:
    rows = Rule.objects.select_related("environment", "service", "dependency")
    rule = get_visible(rows, actor=actor, pk=rule_id)
    check_reach(actor)
    return rule


def _write(
    action: str,
    rule: Rule,
    version: int | None,
    changes: Mapping[str, Any],
    actor: Actor,
    reason: str = "",
) -> Rule:
    check_rule(rule.kind, {**rule.settings(), **changes})
    before = rule.as_audited()
    swap(rule, version=version, **changes)
    _tell(action, rule, actor, before=before, reason=reason)
    return rule


def _tell(
    action: str,
    rule: Rule,
    actor: Actor,
    *,
    before: dict[str, Any] | None = None,
    reason: str = "",
) -> None:
    audit.record(
        action,
        rule,
        actor=actor,
        environment_id=rule.environment_id,
        before=before,
        after=rule.as_audited(),
        reason=reason,
    )
    bus.announce("alerts", environment_id=rule.environment_id)
