"""The pages of automatic actions, and of the switch that freezes them."""

from typing import Any, ClassVar

from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.alerts import services
from apps.alerts.admin.forms import ActionSettingsForm, FreezeForm, NewActionForm
from apps.alerts.models import Action, AlertEnvironmentSettings, Engagement
from apps.alerts.services.acting import blast_radius, is_frozen
from apps.core.actor import Actor
from apps.core.admin import Change, GuardedForm, GuardedModelAdmin, column


def _create(*, actor: Actor, values: dict[str, Any]) -> Action:
    values.pop("environment")  # the actor is narrowed to it
    return services.create_action(
        values.pop("rule").pk,
        service=values.pop("service"),
        reason=values.pop("reason"),
        settings=values,
        actor=actor,
    )


def _update(row: Action, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Action:
    reason = values.pop("reason")
    return services.update_action(
        row.pk, version=version, changes=values, reason=reason, actor=actor
    )


def _delete(row: Action, *, actor: Actor, version: int | None, values: dict[str, Any]) -> None:
    services.delete_action(row.pk, version=version, actor=actor)


def _settings_of(row: Action) -> dict[str, Any]:
    return {
        "lease_seconds": row.lease_seconds,
        "max_lease_seconds": row.max_lease_seconds,
        "dependencies": ", ".join(row.dependencies or []),
        "mode": row.mode,
        "release_on_recovery": row.release_on_recovery,
    }


def _facts(row: Action, actor: Actor) -> list[tuple[Any, Any]]:
    facts: list[tuple[Any, Any]] = [(_("Engaging it hits"), blast_radius(row))]
    if is_frozen(row.environment_id):
        facts.append((_("At present"), _("automatic actions are frozen here")))
    return facts


@admin.register(Action)
class ActionAdmin(GuardedModelAdmin):
    """What Holdfast may switch by itself."""

    list_display = ("rule", "mode_badge", "flag_key", "flag_kind", "where", "lease", "environment")
    list_filter = ("mode", "flag_kind", "environment")
    list_select_related = ("environment", "rule", "service")
    search_fields = ("flag_key", "rule__key")
    ordering = ("environment__slug", "flag_key")
    fields = (
        *("rule", "environment", "mode_badge", "flag_key", "flag_kind", "where", "covers"),
        *("lease", "release_on_recovery", "hits", "version"),
    )
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Add action"),
            scope="alerts:write",
            form=NewActionForm,
            apply=_create,
            submit=gettext_lazy("Add"),
            done=gettext_lazy("%(object)s is there."),
            icon="add",
            intro=gettext_lazy(
                "In shadow it only says what it would have done. Arm it when you have seen enough; "
                "arming needs a reason."
            ),
        )
    }
    changes: ClassVar = {
        "edit": Change(
            title=gettext_lazy("Settings"),
            scope="alerts:write",
            form=ActionSettingsForm,
            apply=_update,
            submit=gettext_lazy("Save"),
            done=gettext_lazy("%(object)s is changed."),
            icon="tune",
            initial=_settings_of,
            facts=_facts,
            intro=gettext_lazy("Arming needs a reason."),
        ),
        "delete": Change(
            title=gettext_lazy("Delete action"),
            scope="alerts:write",
            form=GuardedForm,
            apply=_delete,
            submit=gettext_lazy("Delete"),
            done=gettext_lazy("%(object)s is deleted."),
            dangerous=True,
            icon="delete",
            removes=True,
        ),
    }

    @column(gettext_lazy("Mode"), badge={"armed": "danger", "shadow": "info"}, order="mode")
    def mode_badge(self, row: Action) -> tuple[str, Any]:
        return row.mode, _("armed") if row.mode == Action.Mode.ARMED else _("shadow")

    @column(gettext_lazy("Where"))
    def where(self, row: Action) -> str:
        return str(row.service) if row.service else _("every service")

    @column(gettext_lazy("Dependencies"))
    def covers(self, row: Action) -> str:
        return ", ".join(row.dependencies) if row.dependencies else _("all")

    @column(gettext_lazy("Lease"))
    def lease(self, row: Action) -> str:
        return _("%(lease)d s, at most %(most)d s") % {
            "lease": row.lease_seconds,
            "most": row.max_lease_seconds,
        }

    @column(gettext_lazy("Engaging it hits"))
    def hits(self, row: Action) -> str:
        return blast_radius(row)


@admin.register(Engagement)
class EngagementAdmin(GuardedModelAdmin):
    """What actions did, or would have done, newest first."""

    list_display = ("at", "outcome_badge", "action", "alert", "detail", "ended_at")
    list_filter = ("outcome", "environment")
    list_select_related = ("action__rule", "alert")
    search_fields = ("action__flag_key", "alert__key", "alert__subject")
    ordering = ("-pk",)
    fields = (
        "at",
        "environment",
        "outcome_badge",
        "action",
        "alert",
        "detail",
        "until",
        "ended_at",
    )
    readonly_fields = fields

    @column(
        gettext_lazy("Outcome"),
        badge={"engaged": "danger", "refused": "warning", "released": "success", "shadow": "info"},
        order="outcome",
    )
    def outcome_badge(self, row: Engagement) -> tuple[str, str]:
        return row.outcome, row.get_outcome_display()


def _set(
    row: AlertEnvironmentSettings, frozen: bool, actor: Actor, version: int | None, reason: str
) -> AlertEnvironmentSettings:
    return services.freeze_actions(
        row.pk, frozen=frozen, version=version, reason=reason, actor=actor
    )


def _freeze(
    row: AlertEnvironmentSettings, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> AlertEnvironmentSettings:
    return _set(row, True, actor, version, values["reason"])


def _thaw(
    row: AlertEnvironmentSettings, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> AlertEnvironmentSettings:
    return _set(row, False, actor, version, values["reason"])


@admin.register(AlertEnvironmentSettings)
class FreezeAdmin(GuardedModelAdmin):
    """One switch per environment."""

    list_display = ("environment", "state", "reason", "set_by", "set_at")
    list_select_related = ("environment",)
    ordering = ("environment__slug",)
    fields = ("environment", "state", "reason", "set_by", "set_at", "version")
    readonly_fields = fields
    changes: ClassVar = {
        "freeze": Change(
            title=gettext_lazy("Freeze automatic actions"),
            scope="alerts:write",
            form=FreezeForm,
            apply=_freeze,
            submit=gettext_lazy("Freeze now"),
            done=gettext_lazy("Nothing is switched by itself in %(object)s."),
            dangerous=True,
            icon="ac_unit",
            offered=lambda row: not row.frozen,
            intro=gettext_lazy(
                "Nothing is engaged, renewed or released by itself. Leases end as ever."
            ),
        ),
        "thaw": Change(
            title=gettext_lazy("Let automatic actions act again"),
            scope="alerts:write",
            form=FreezeForm,
            apply=_thaw,
            done=gettext_lazy("Armed actions act again in %(object)s."),
            icon="play_arrow",
            offered=lambda row: row.frozen,
        ),
    }

    @column(gettext_lazy("Automatic actions"), badge={"frozen": "warning", "free": "success"})
    def state(self, row: AlertEnvironmentSettings) -> tuple[str, Any]:
        return ("frozen", _("FROZEN")) if row.frozen else ("free", _("as set"))
