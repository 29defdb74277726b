"""Overrides in the console: force a breaker open or closed, extend, end."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.utils.timesince import timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from apps.core import clock
from apps.core.actor import Actor
from apps.core.admin import Change, GuardedForm, GuardedModelAdmin, column
from apps.core.forms import LeaseField, reason_field
from apps.policies import selectors, services
from apps.policies.admin.fields import DependencyForm, ReasonForm
from apps.policies.models import Override, Scope


class EngageForm(DependencyForm):
    mode = forms.ChoiceField(
        label=gettext_lazy("Mode"), choices=Override.Mode.choices, widget=forms.RadioSelect
    )
    lease = LeaseField()
    reason = reason_field(such_as=gettext_lazy("each call makes it worse"))


class ExtendForm(GuardedForm):
    lease = LeaseField()
    reason = reason_field(required=False)


def _engage(*, actor: Actor, values: dict[str, Any]) -> Override:
    return services.engage_override(
        values["mode"],
        scope=Scope(values["environment"].pk, values["dependency"], values["service"]),
        lease=values["lease"],
        reason=values["reason"],
        actor=actor,
    )


def _extend(
    row: Override, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> Override:
    return services.extend_override(
        row.pk,
        version=version,
        lease=values["lease"],
        reason=values["reason"],
        actor=actor,
    )


def _end(row: Override, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Override:
    return services.end_override(row.pk, version=version, reason=values["reason"], actor=actor)


def ends(row: Override) -> str:
    """When it ends, or how it ended, for people."""
    if row.ended_at is not None:
        return _("ended by %(who)s") % {"who": row.ended_by}
    if row.expires_at is None:
        return _("until somebody ends it")
    if not row.is_in_force:
        return _("its time is over")
    return _("ends in %(time)s") % {"time": timeuntil(row.expires_at, clock.now())}


def _preview(actor: Actor, places: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """What an override would hit where it is chosen."""
    dependency, service = places["dependency"], places["service"]
    if dependency is None:
        return []
    scope = Scope(dependency.environment_id, dependency, service)
    reach = selectors.reach_of(scope)
    hits = ngettext("%d service", "%d services", reach) % reach
    where = scope if service is not None else _("%s everywhere") % dependency
    return [(_("This hits"), f"{where}: {hits}")]


def _facts(row: Override, actor: Actor) -> list[tuple[Any, Any]]:
    reach = selectors.reach_of(row.holds_in)
    hits = ngettext("%d service", "%d services", reach) % reach
    return [
        (_("This hits"), f"{row.holds_in}: {hits}"),
        (_("At present"), f"{row.get_mode_display()} · {row.set_by}: {row.reason} · {ends(row)}"),
    ]


class InForceFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "in_force"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", gettext_lazy("in force")), ("no", gettext_lazy("ended"))]

    def queryset(self, request: Any, queryset: Any) -> Any:
        now = Override.objects.in_force(clock.now()).values("pk")
        if self.value() == "yes":
            return queryset.filter(pk__in=now)
        return queryset.exclude(pk__in=now) if self.value() == "no" else queryset


@admin.register(Override)
class OverrideAdmin(GuardedModelAdmin):
    """Every override one may see, newest first."""

    list_display = ("where", "mode_badge", "state", "countdown", "set_by", "reason", "environment")
    list_filter = (InForceFilter, "mode", "environment")
    list_select_related = ("environment", "service", "dependency")
    search_fields = ("dependency__slug", "service__slug", "reason", "set_by")
    fields = (
        *("environment", "dependency", "service", "mode", "state", "countdown", "reason"),
        *("set_by", "set_at", "expires_at", "ended_at", "ended_by", "end_reason", "version"),
    )
    readonly_fields = fields
    creations: ClassVar = {
        "engage": Change(
            title=gettext_lazy("Override breakers"),
            scope="overrides:write",
            form=EngageForm,
            apply=_engage,
            submit=gettext_lazy("Override now"),
            done=gettext_lazy("%(object)s is in force."),
            dangerous=True,
            icon="front_hand",
            preview=_preview,
            intro=gettext_lazy(
                "Services obey at once, and go back to their own breakers when the time is over."
            ),
        )
    }
    changes: ClassVar = {
        "end": Change(
            title=gettext_lazy("End"),
            scope="overrides:write",
            form=ReasonForm,
            apply=_end,
            submit=gettext_lazy("End now"),
            done=gettext_lazy("%(object)s is ended."),
            icon="lock_open",
            offered=lambda row: row.ended_at is None,
            facts=_facts,
        ),
        "extend": Change(
            title=gettext_lazy("Extend"),
            scope="overrides:write",
            form=ExtendForm,
            apply=_extend,
            submit=gettext_lazy("Extend"),
            done=gettext_lazy("%(object)s is extended."),
            icon="more_time",
            offered=lambda row: row.is_in_force,
            facts=_facts,
            intro=gettext_lazy("The new time counts from now."),
        ),
    }

    @column(gettext_lazy("Where"))
    def where(self, row: Override) -> str:
        return str(row.holds_in) if row.service_id else _("%s everywhere") % row.dependency

    @column(
        gettext_lazy("Mode"),
        badge={
            "force_open": "danger",
            "force_closed": "warning",
            "disabled": "warning",
            "metrics_only": "info",
        },
    )
    def mode_badge(self, row: Override) -> tuple[str, str]:
        return row.mode, row.get_mode_display()

    @column(gettext_lazy("State"), badge={"on": "danger", "off": "info"})
    def state(self, row: Override) -> tuple[str, Any]:
        return ("on", _("IN FORCE")) if row.is_in_force else ("off", _("ended"))

    @column(gettext_lazy("Ends"), order="expires_at")
    def countdown(self, row: Override) -> str:
        return ends(row)
