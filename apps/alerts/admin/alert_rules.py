"""The pages of alert rules."""

from typing import Any, ClassVar

from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.alerts import services
from apps.alerts.admin.alerts import SEVERITY_COLOURS
from apps.alerts.admin.forms import NewRuleForm, RuleSettingsForm
from apps.alerts.models import Rule
from apps.alerts.rules.kinds import shown
from apps.core.actor import Actor
from apps.core.admin import Change, GuardedForm, GuardedModelAdmin, column


def _create(*, actor: Actor, values: dict[str, Any]) -> Rule:
    values.pop("environment")  # the actor is narrowed to it
    return services.create_rule(
        values.pop("key"),
        kind=values.pop("kind"),
        service=values.pop("service"),
        dependency=values.pop("dependency"),
        settings=values,
        actor=actor,
    )


def _update(rule: Rule, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Rule:
    return services.update_rule(rule.pk, version=version, changes=values, actor=actor)


def _restore(rule: Rule, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Rule:
    return services.restore_rule(rule.pk, version=version, actor=actor)


def _delete(rule: Rule, *, actor: Actor, version: int | None, values: dict[str, Any]) -> None:
    services.delete_rule(rule.pk, version=version, actor=actor)


def _settings_of(rule: Rule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in RuleSettingsForm.base_fields if name != "version"}


@admin.register(Rule)
class RuleAdmin(GuardedModelAdmin):
    """Every rule one may see."""

    list_display = ("key", "state", "severity_badge", "about", "limit", "lasting", "environment")
    list_filter = ("enabled", "kind", "severity", "environment")
    list_select_related = ("environment", "service", "dependency")
    search_fields = ("key", "service__slug", "dependency__slug")
    ordering = ("environment__slug", "key")
    fields = (
        *("key", "environment", "state", "severity_badge", "about", "where", "limit", "resolves"),
        *("lasting", "keep_firing_seconds", "min_samples", "window_seconds", "no_data"),
        *("runbook_url", "version"),
    )
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Add rule"),
            scope="alerts:write",
            form=NewRuleForm,
            apply=_create,
            submit=gettext_lazy("Add"),
            done=gettext_lazy("%(object)s is judged from now on."),
            icon="add",
        )
    }
    changes: ClassVar = {
        "edit": Change(
            title=gettext_lazy("Settings"),
            scope="alerts:write",
            form=RuleSettingsForm,
            apply=_update,
            submit=gettext_lazy("Save"),
            done=gettext_lazy("%(object)s is changed."),
            icon="tune",
            initial=_settings_of,
        ),
        "restore": Change(
            title=gettext_lazy("Restore default"),
            scope="alerts:write",
            form=GuardedForm,
            apply=_restore,
            submit=gettext_lazy("Restore"),
            done=gettext_lazy("%(object)s is as it was delivered."),
            icon="settings_backup_restore",
            offered=lambda rule: rule.is_default,
        ),
        "delete": Change(
            title=gettext_lazy("Delete rule"),
            scope="alerts:write",
            form=GuardedForm,
            apply=_delete,
            submit=gettext_lazy("Delete"),
            done=gettext_lazy("%(object)s is deleted."),
            dangerous=True,
            icon="delete",
            offered=lambda rule: not rule.is_default,
            removes=True,
            intro=gettext_lazy("Its open alerts are resolved; their history stays."),
        ),
    }

    @column(gettext_lazy("State"), badge={"on": "success", "off": "info"}, order="enabled")
    def state(self, rule: Rule) -> tuple[str, Any]:
        return ("on", _("enabled")) if rule.enabled else ("off", _("disabled"))

    @column(gettext_lazy("Severity"), badge=SEVERITY_COLOURS, order="severity")
    def severity_badge(self, rule: Rule) -> tuple[str, str]:
        return rule.severity, rule.get_severity_display()

    @column(gettext_lazy("About"), order="kind")
    def about(self, rule: Rule) -> str:
        return rule.get_kind_display()

    @column(gettext_lazy("Where"))
    def where(self, rule: Rule) -> str:
        service = rule.service or _("every service")
        return f"{service} → {rule.dependency or _('everything')}"

    @column(gettext_lazy("Threshold"), order="threshold")
    def limit(self, rule: Rule) -> str:
        return shown(rule.threshold, rule.unit)

    @column(gettext_lazy("Resolves at"))
    def resolves(self, rule: Rule) -> str:
        resolves = rule.resolve_threshold
        return shown(rule.threshold if resolves is None else resolves, rule.unit)

    @column(gettext_lazy("For"), order="for_seconds")
    def lasting(self, rule: Rule) -> str:
        return f"{rule.for_seconds} s" if rule.for_seconds else _("at once")
