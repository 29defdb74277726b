"""The pages of flags."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib import admin
from django.utils.timesince import timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from apps.core import clock
from apps.core.actor import Actor
from apps.core.admin import Change, GuardedForm, GuardedModelAdmin, column
from apps.core.forms import UNTIL_ENDED, json_text
from apps.degradation import selectors, services
from apps.degradation.admin.forms import (
    EndForm,
    EngageForm,
    ExtendForm,
    FlagSettingsForm,
    NewFlagForm,
    ReadOnlyForm,
)
from apps.degradation.models import Flag
from apps.fleet.models import Environment


def _engage(flag: Flag, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Flag:
    return services.engage_flag(
        flag.pk,
        version=version,
        lease=values["lease"],
        reason=values["reason"],
        actor=actor,
    )


def _extend(flag: Flag, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Flag:
    return services.extend_flag(
        flag.pk,
        version=version,
        lease=values["lease"],
        reason=values["reason"],
        actor=actor,
    )


def _end(flag: Flag, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Flag:
    return services.end_flag(flag.pk, version=version, reason=values["reason"], actor=actor)


def _update(flag: Flag, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Flag:
    reason = values.pop("reason")
    return services.update_flag(
        flag.pk, version=version, changes=values, reason=reason, actor=actor
    )


def _delete(flag: Flag, *, actor: Actor, version: int | None, values: dict[str, Any]) -> None:
    services.delete_flag(flag.pk, version=version, actor=actor)


def _create(*, actor: Actor, values: dict[str, Any]) -> Flag:
    values.pop("environment")  # the actor is narrowed to it
    return services.create_flag(
        values.pop("key"),
        kind=values.pop("kind"),
        service=values.pop("service"),
        settings=values,
        actor=actor,
    )


def _switch_read_only(*, actor: Actor, values: dict[str, Any]) -> Flag:
    return services.switch_read_only(
        service=values["service"],
        lease=values["lease"],
        reason=values["reason"],
        actor=actor,
    )


def _impact_rows(found: selectors.Impact) -> list[tuple[Any, Any]]:
    rows: list[tuple[Any, Any]] = [(_("This hits"), str(found))]
    if found.names:
        shown = ", ".join(found.names[:10])
        more = len(found.names) - 10
        rest = ngettext(" and %d more", " and %d more", more) % more if more > 0 else ""
        rows.append((_("Services"), shown + rest))
    return rows


def _facts(flag: Flag, actor: Actor) -> list[tuple[Any, Any]]:
    """What engaging or ending `flag` hits, and its present state."""
    return [*_impact_rows(selectors.impact_of(flag)), (_("At present"), _state(flag))]


def _preview(actor: Actor, places: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """What read-only mode would hit where it is chosen, else in each environment they see."""
    environment, service = places["environment"], places["service"]
    if service is not None:
        return _impact_rows(selectors.impact(service.environment_id, service_id=service.pk))
    if environment is not None:
        return _impact_rows(selectors.impact(environment.pk))
    return [
        (_("%(environment)s: this hits") % {"environment": place}, str(selectors.impact(place.pk)))
        for place in Environment.objects.visible_to(actor).order_by("slug")
    ]


def _state(flag: Flag) -> str:
    if not flag.is_engaged:
        return _("off")
    by = {"who": flag.set_by, "why": flag.reason, "end": _ends(flag)}
    return _("engaged by %(who)s, %(end)s: %(why)s") % by


def _ends(flag: Flag) -> str:
    if flag.expires_at is None:
        return _("until somebody ends it")
    return _("ends in %(time)s") % {"time": timeuntil(flag.expires_at, clock.now())}


def _settings_of(flag: Flag) -> dict[str, Any]:
    return {
        "dependencies": ", ".join(flag.dependencies or []),
        "value": json_text(flag.value),
        "percentage": flag.percentage,
        "on_stale": flag.on_stale,
    }


def _is_off(flag: Flag) -> bool:
    return not flag.is_engaged


class EngagedFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "engaged"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", gettext_lazy("engaged")), ("no", gettext_lazy("off"))]

    def queryset(self, request: Any, queryset: Any) -> Any:
        engaged = Flag.objects.engaged(clock.now()).values("pk")
        if self.value() == "yes":
            return queryset.filter(pk__in=engaged)
        return queryset.exclude(pk__in=engaged) if self.value() == "no" else queryset


@admin.register(Flag)
class FlagAdmin(GuardedModelAdmin):
    """Every flag one may see, engaged ones first."""

    list_display = ("key", "state", "where", "kind_badge", "ends", "set_by", "reason")
    list_filter = (EngagedFilter, "kind", "environment")
    list_select_related = ("environment", "service")
    search_fields = ("key", "reason", "set_by", "service__slug")
    ordering = ("-enabled", "key")
    fields = (
        *("key", "where", "kind", "state", "reason", "set_by", "set_at", "ends", "covers"),
        *("carries", "share", "on_stale", "created_at", "version"),
    )
    readonly_fields = fields
    creations: ClassVar = {
        "read-only": Change(
            title=gettext_lazy("Engage read-only"),
            scope="flags:write",
            form=ReadOnlyForm,
            apply=_switch_read_only,
            submit=gettext_lazy("Engage read-only now"),
            done=gettext_lazy("Read-only mode is engaged: %(object)s."),
            dangerous=True,
            icon="lock",
            preview=_preview,
            intro=gettext_lazy(
                "Services refuse writes at once, keep reading, and end it by themselves when the "
                "time is over."
            ),
        ),
        "new": Change(
            title=gettext_lazy("Add flag"),
            scope="flags:write",
            form=NewFlagForm,
            apply=_create,
            submit=gettext_lazy("Add, not engaged"),
            done=gettext_lazy("%(object)s is there, not engaged."),
            icon="add",
        ),
    }
    changes: ClassVar = {
        "engage": Change(
            title=gettext_lazy("Engage"),
            scope="flags:write",
            form=EngageForm,
            apply=_engage,
            submit=gettext_lazy("Engage now"),
            done=gettext_lazy("%(object)s is engaged."),
            dangerous=True,
            icon="lock",
            offered=_is_off,
            initial=lambda flag: {} if flag.kind == "read_only" else {"lease": UNTIL_ENDED},
            facts=_facts,
        ),
        "end": Change(
            title=gettext_lazy("End"),
            scope="flags:write",
            form=EndForm,
            apply=_end,
            submit=gettext_lazy("End now"),
            done=gettext_lazy("%(object)s is ended."),
            icon="lock_open",
            offered=lambda flag: flag.enabled,
            facts=_facts,
        ),
        "extend": Change(
            title=gettext_lazy("Extend"),
            scope="flags:write",
            form=ExtendForm,
            apply=_extend,
            submit=gettext_lazy("Extend"),
            done=gettext_lazy("%(object)s is extended."),
            icon="more_time",
            offered=lambda flag: flag.is_engaged,
            facts=_facts,
            intro=gettext_lazy("The new time counts from now."),
        ),
        "edit": Change(
            title=gettext_lazy("Settings"),
            scope="flags:write",
            form=FlagSettingsForm,
            apply=_update,
            submit=gettext_lazy("Save"),
            done=gettext_lazy("%(object)s is changed."),
            icon="tune",
            initial=_settings_of,
            facts=_facts,
            intro=gettext_lazy("While it is engaged, services learn of the change at once."),
        ),
        "delete": Change(
            title=gettext_lazy("Delete flag"),
            scope="flags:write",
            form=GuardedForm,
            apply=_delete,
            submit=gettext_lazy("Delete"),
            done=gettext_lazy("%(object)s is deleted."),
            dangerous=True,
            icon="delete",
            offered=lambda flag: not flag.enabled,
            removes=True,
            intro=gettext_lazy("Its history stays in the audit log."),
        ),
    }

    @column(gettext_lazy("State"), badge={"on": "danger", "off": "info"})
    def state(self, flag: Flag) -> tuple[str, Any]:
        return ("on", _("ENGAGED")) if flag.is_engaged else ("off", _("off"))

    @column(gettext_lazy("Where"))
    def where(self, flag: Flag) -> str:
        return f"{flag.environment} · {flag.service or _('every service')}"

    @column(
        gettext_lazy("Kind"),
        badge={"read_only": "danger", "fallback": "warning", "feature_off": "warning"},
    )
    def kind_badge(self, flag: Flag) -> tuple[str, str]:
        return flag.kind, flag.get_kind_display()

    @column(gettext_lazy("Ends"), order="expires_at")
    def ends(self, flag: Flag) -> str:
        return _ends(flag) if flag.is_engaged else "–"

    @column(gettext_lazy("Dependencies"))
    def covers(self, flag: Flag) -> str:
        if flag.kind != Flag.Kind.FALLBACK:
            return "–"
        return ", ".join(flag.dependencies) if flag.dependencies else _("all")

    @column(gettext_lazy("Value"))
    def carries(self, flag: Flag) -> str:
        return json_text(flag.value) or "–"

    @column(gettext_lazy("Percentage"))
    def share(self, flag: Flag) -> str:
        return f"{flag.percentage:g} %" if flag.kind == Flag.Kind.CUSTOM else "–"
