"""What instances said, to look at; nobody changes it."""

import json
from typing import Any

from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.admin import GuardedModelAdmin, column
from apps.telemetry import rules
from apps.telemetry.models import BreakerEvent, BreakerState, InstanceState

STATE_COLOURS = {
    "open": "danger",
    "half_open": "warning",
    "closed": "success",
    "stopping": "info",
    "silent": "warning",
    "live": "success",
}

RESOURCES = {
    "cpu": gettext_lazy("CPU"),
    "memory": gettext_lazy("memory"),
    "memory_host": gettext_lazy("memory of its host"),
    "disk_free": gettext_lazy("disk free"),
}


def _state_badge(state: str) -> tuple[str, str]:
    return state, str(BreakerState(state).label) if state else "–"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


@admin.register(InstanceState)
class InstanceStateAdmin(GuardedModelAdmin):
    """What every instance runs and how its breakers stand."""

    change_form_template = "telemetry/instance.html"
    list_display = (
        "name",
        "service",
        "life",
        "revision",
        "refusals",
        "breaker",
        "busy",
        "reported_at",
    )
    list_filter = ("instance__service__environment", "instance__service", "instance__stopping")
    list_select_related = ("instance__service",)
    search_fields = ("instance__name", "instance__service__slug", "instance__id")
    ordering = ("-reported_at",)
    fields = (
        *("name", "service", "life", "revision", "epoch", "applied_at", "sequence"),
        *("refused_text", "breakers_text", "in_flight_text", "resources_text", "reported_at"),
    )
    readonly_fields = fields

    def environment_of(self, row: InstanceState) -> int | None:
        return row.instance.service.environment_id

    @column(gettext_lazy("instance"), order="instance__name")
    def name(self, row: InstanceState) -> str:
        return str(row.instance)

    @column(gettext_lazy("service"), order="instance__service__slug")
    def service(self, row: InstanceState) -> str:
        return row.instance.service.slug

    @column(gettext_lazy("heard"), badge=STATE_COLOURS)
    def life(self, row: InstanceState) -> tuple[str, str]:
        if row.instance.stopping:
            return "stopping", _("stopping")
        return ("silent", _("silent")) if row.instance.is_silent else ("live", _("live"))

    @column(gettext_lazy("applied revision"), order="applied_revision")
    def revision(self, row: InstanceState) -> str:
        return _("defaults") if row.applied_revision is None else str(row.applied_revision)

    @column(gettext_lazy("refused"), badge={"some": "danger", "none": "success"})
    def refusals(self, row: InstanceState) -> tuple[str, str]:
        return ("some", str(len(row.refused))) if row.refused else ("none", _("none"))

    @column(gettext_lazy("worst breaker"), badge=STATE_COLOURS)
    def breaker(self, row: InstanceState) -> tuple[str, str]:
        return _state_badge(rules.worst(said["state"] for said in row.breakers.values()))

    @column(gettext_lazy("resources"))
    def busy(self, row: InstanceState) -> str:
        """The shares it reported, in per cent."""
        shown = [
            f"{title} {100 * share:.0f} %"
            for name, title in RESOURCES.items()
            if isinstance(share := row.resources.get(name), int | float)
        ]
        return ", ".join(map(str, shown)) or "–"

    @column(gettext_lazy("refused entries"))
    def refused_text(self, row: InstanceState) -> str:
        return _pretty(row.refused)

    @column(gettext_lazy("breakers"))
    def breakers_text(self, row: InstanceState) -> str:
        return _pretty(row.breakers)

    @column(gettext_lazy("calls under way"))
    def in_flight_text(self, row: InstanceState) -> str:
        return _pretty(row.in_flight)

    @column(gettext_lazy("resources of its host"))
    def resources_text(self, row: InstanceState) -> str:
        return _pretty(row.resources)


@admin.register(BreakerEvent)
class BreakerEventAdmin(GuardedModelAdmin):
    """How breakers moved, newest first."""

    list_display = (
        *("at", "service", "dependency", "instance_name", "type", "from_badge", "to_badge"),
        *("cause", "received_at"),
    )
    list_filter = ("service__environment", "service", "to_state", "type")
    list_select_related = ("service",)
    search_fields = ("dependency", "instance_name", "service__slug", "cause")
    ordering = ("-received_at", "-pk")
    fields = (
        *("service", "dependency", "instance_name", "instance_id", "type", "from_badge"),
        *("to_badge", "cause", "at", "received_at", "data_text"),
    )
    readonly_fields = fields

    def environment_of(self, row: BreakerEvent) -> int | None:
        return row.service.environment_id

    @column(gettext_lazy("from"), badge=STATE_COLOURS, order="from_state")
    def from_badge(self, row: BreakerEvent) -> tuple[str, str]:
        return _state_badge(row.from_state)

    @column(gettext_lazy("to"), badge=STATE_COLOURS, order="to_state")
    def to_badge(self, row: BreakerEvent) -> tuple[str, str]:
        return _state_badge(row.to_state)

    @column(gettext_lazy("data"))
    def data_text(self, row: BreakerEvent) -> str:
        return _pretty(row.data)
