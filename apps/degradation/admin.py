"""Flags in the console: look at all of them; engage, extend and end on pages of their own."""

from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.utils.timesince import timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from apps.core import clock
from apps.core.actor import Actor
from apps.core.admin import (
    Change,
    GuardedForm,
    GuardedModelAdmin,
    StrictJSONField,
    column,
    json_text,
)
from apps.degradation import rules, selectors, services
from apps.degradation.models import Flag
from apps.fleet.models import Environment, Service

UNTIL_ENDED = "0"
LEASES = [
    ("900", gettext_lazy("15 minutes")),
    ("1800", gettext_lazy("30 minutes")),
    ("3600", gettext_lazy("1 hour")),
    ("14400", gettext_lazy("4 hours")),
    (UNTIL_ENDED, gettext_lazy("until I end it")),
]


def _lease(text: str) -> timedelta | None:
    return None if text == UNTIL_ENDED else timedelta(seconds=int(text))


class LeaseField(forms.ChoiceField):
    """How long a switch holds by itself; `_lease` reads it."""

    def __init__(self) -> None:
        super().__init__(
            label=gettext_lazy("Ends by itself after"),
            choices=LEASES,
            widget=forms.RadioSelect,
            initial="1800",
            help_text=gettext_lazy("Services end it on their own clocks, even without Holdfast."),
        )


def _reason_field(*, required: bool = True) -> forms.CharField:
    return forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=rules.LONGEST_REASON,
        required=required,
        widget=forms.TextInput(attrs={"placeholder": gettext_lazy("primary failing over")}),
        help_text=gettext_lazy("Shown on the wall and kept in the audit log."),
    )


class EngageForm(GuardedForm):
    lease = LeaseField()
    reason = _reason_field()


class ExtendForm(GuardedForm):
    lease = LeaseField()
    reason = _reason_field(required=False)


class EndForm(GuardedForm):
    reason = _reason_field()


class ServiceChoice(forms.ModelChoiceField):  # type: ignore[type-arg]  # generic in the stubs only
    """A service by environment and name."""

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.environment} · {obj}"


def _service_field() -> ServiceChoice:
    return ServiceChoice(
        label=gettext_lazy("Service"),
        queryset=Service.objects.select_related("environment").order_by(
            "environment__slug", "slug"
        ),
        required=False,
        empty_label=gettext_lazy("every service of the environment"),
    )


class ScopeForm(GuardedForm):
    """Where a flag holds: an environment, or one service of it."""

    environment = forms.ModelChoiceField(
        label=gettext_lazy("Environment"), queryset=Environment.objects.order_by("slug")
    )
    service = _service_field()

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        service, environment = values.get("service"), values.get("environment")
        if service and environment and service.environment_id != environment.pk:
            self.add_error("service", _("This service is in another environment."))
        return values


class ReadOnlyForm(ScopeForm):
    lease = LeaseField()
    reason = _reason_field()


class SettingsForm(GuardedForm):
    """What services read of a flag besides that it is engaged."""

    dependencies = forms.CharField(
        label=gettext_lazy("Dependencies"),
        required=False,
        max_length=10_000,
        help_text=gettext_lazy("Of a fallback flag: names, with commas between. Empty: all."),
    )
    value = StrictJSONField(
        label=gettext_lazy("Value"),
        required=False,
        help_text=gettext_lazy('Of a custom flag: JSON, such as "short" or {"model": "small"}.'),
    )
    percentage = forms.FloatField(
        label=gettext_lazy("Percentage"),
        min_value=0,
        max_value=100,
        initial=100,
        help_text=gettext_lazy("Of a custom flag: the share of keys it is on for."),
    )
    on_stale = forms.ChoiceField(
        label=gettext_lazy("Without news from Holdfast"), choices=Flag.OnStale.choices
    )

    def clean_dependencies(self) -> list[str] | None:
        names = self.cleaned_data["dependencies"].replace(",", " ").split()
        return sorted(set(names)) or None


class NewFlagForm(ScopeForm, SettingsForm):
    key = forms.CharField(
        label=gettext_lazy("Key"),
        max_length=80,
        help_text=gettext_lazy("The name the service asks for, such as simple-replies."),
    )
    kind = forms.ChoiceField(label=gettext_lazy("Kind"), choices=Flag.Kind.choices)
    field_order = ("key", "kind", "environment", "service")


class FlagSettingsForm(SettingsForm):
    reason = _reason_field(required=False)


def _engage(flag: Flag, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Flag:
    return services.engage_flag(
        flag.pk,
        version=version,
        lease=_lease(values["lease"]),
        reason=values["reason"],
        actor=actor,
    )


def _extend(flag: Flag, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Flag:
    return services.extend_flag(
        flag.pk,
        version=version,
        lease=_lease(values["lease"]),
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
        lease=_lease(values["lease"]),
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


def _facts_by_environment(row: None, actor: Actor) -> list[tuple[Any, Any]]:
    """What read-only mode would hit, in each environment the person sees."""
    places = Environment.objects.visible_to(actor).order_by("slug")
    return [
        (_("%(environment)s: this hits") % {"environment": place}, str(selectors.impact(place.pk)))
        for place in places
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
        *("key", "environment", "service", "kind", "state", "reason", "set_by", "set_at", "ends"),
        *("dependencies", "value", "percentage", "on_stale", "created_at", "version"),
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
            facts=_facts_by_environment,
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
            initial=lambda flag: {"lease": "1800" if flag.kind == "read_only" else UNTIL_ENDED},
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
