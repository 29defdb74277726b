"""The pages of alerts: what is the matter, how it came, and who looks after it."""

from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.alerts import services
from apps.alerts.admin.forms import AcknowledgeForm, SilenceAlertForm
from apps.alerts.models import Alert, Silence
from apps.alerts.rules.defaults import runbook
from apps.alerts.rules.kinds import shown
from apps.audit.models import Entry
from apps.core import clock
from apps.core.actor import Actor
from apps.core.admin import Change, GuardedModelAdmin, column

SEVERITY_COLOURS = {"critical": "danger", "error": "danger", "warning": "warning", "info": "info"}


def _acknowledge(
    alert: Alert, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> Alert:
    return services.acknowledge_alert(alert.pk, version=version, note=values["note"], actor=actor)


def _silence(alert: Alert, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Silence:
    matchers = [
        {"name": name, "value": value}
        for name, value in alert.labels().items()
        if value and name not in {"kind", "severity"}
    ]
    lease: timedelta = values["lease"]
    return services.create_silence(matchers, lease=lease, reason=values["reason"], actor=actor)


def _facts(alert: Alert, actor: Actor) -> list[tuple[Any, Any]]:
    return [
        (_("At present"), alert.get_state_display()),
        (_("Value"), f"{alert.shown_value} ({_('threshold')} {alert.shown_threshold})"),
    ]


class OpenFilter(admin.SimpleListFilter):
    title = gettext_lazy("open")
    parameter_name = "open"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", gettext_lazy("open")), ("no", gettext_lazy("resolved"))]

    def queryset(self, request: Any, queryset: Any) -> Any:
        resolved = Alert.State.RESOLVED
        if self.value() == "yes":
            return queryset.exclude(state=resolved)
        return queryset.filter(state=resolved) if self.value() == "no" else queryset


@admin.register(Alert)
class AlertAdmin(GuardedModelAdmin):
    """Every alert one may see, newest first."""

    change_form_template = "alerts/alert.html"
    list_display = ("key", "state_badge", "severity_badge", "subject", "measured", "since", "seen")
    list_filter = (OpenFilter, "state", "severity", "environment")
    list_select_related = ("environment", "service")
    search_fields = ("key", "subject", "note", "acknowledged_by")
    ordering = ("-active_at", "-pk")
    fields = (
        *("key", "environment", "subject", "state_badge", "severity_badge", "measured"),
        *("threshold_text", "active_at", "fired_at", "resolved_at", "resolution", "seen", "note"),
        *("what_to_do", "version"),
    )
    readonly_fields = fields
    changes: ClassVar = {
        "acknowledge": Change(
            title=gettext_lazy("Acknowledge"),
            scope="alerts:write",
            form=AcknowledgeForm,
            apply=_acknowledge,
            done=gettext_lazy("%(object)s is acknowledged."),
            icon="visibility",
            offered=lambda alert: alert.is_open and alert.acknowledged_at is None,
            facts=_facts,
            intro=gettext_lazy("Says that you look after it. It goes on being evaluated."),
        ),
        "silence": Change(
            title=gettext_lazy("Silence"),
            scope="alerts:write",
            form=SilenceAlertForm,
            apply=_silence,
            done=gettext_lazy("Messages are held back: %(object)s."),
            icon="notifications_off",
            offered=lambda alert: alert.is_open,
            facts=_facts,
            intro=gettext_lazy(
                "Nobody is told of this for a time. It is evaluated and resolved as ever."
            ),
        ),
    }

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        alert = self.get_object(request, object_id) if object_id else None
        context = {"timeline": _timeline(alert) if alert else [], **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, context)

    @column(
        gettext_lazy("State"),
        badge={"firing": "danger", "pending": "warning", "no_data": "info", "resolved": "success"},
        order="state",
    )
    def state_badge(self, alert: Alert) -> tuple[str, str]:
        return alert.state, alert.get_state_display()

    @column(gettext_lazy("Severity"), badge=SEVERITY_COLOURS, order="severity")
    def severity_badge(self, alert: Alert) -> tuple[str, str]:
        return alert.severity, alert.get_severity_display()

    @column(gettext_lazy("Value"))
    def measured(self, alert: Alert) -> str:
        return f"{alert.shown_value} · n = {alert.samples}"

    @column(gettext_lazy("Threshold"))
    def threshold_text(self, alert: Alert) -> str:
        return alert.shown_threshold

    @column(gettext_lazy("Since"), order="active_at")
    def since(self, alert: Alert) -> str:
        return _("%(time)s ago") % {"time": timesince(alert.active_at, clock.now())}

    @column(gettext_lazy("Acknowledged"))
    def seen(self, alert: Alert) -> str:
        return alert.acknowledged_by or "–"

    @column(gettext_lazy("What to do"))
    def what_to_do(self, alert: Alert) -> str:
        return (alert.rule.runbook_url if alert.rule else "") or runbook(alert.key) or "–"


def _timeline(alert: Alert) -> list[tuple[Any, str, str]]:
    """When, what, and with which figures: transitions, actions, and what people did."""
    rows: list[tuple[Any, str, str]] = [
        (
            row.at,
            row.get_to_state_display(),
            f"{shown(row.value, alert.unit)} · n = {row.samples}",
        )
        for row in alert.transitions.all()
    ]
    rows += [
        (each.at, f"{each.action.flag_key}: {each.get_outcome_display()}", each.detail)
        for each in alert.engagements.select_related("action")
    ]
    entries = Entry.objects.filter(
        object_type="alert", object_id=str(alert.pk), action="alert.acknowledged"
    )
    rows += [
        (entry.at, _("acknowledged by %(who)s") % {"who": entry.actor_label}, entry.reason)
        for entry in entries
    ]
    return sorted(rows, key=lambda row: row[0])
