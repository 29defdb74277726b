"""The pages of silences."""

from typing import Any, ClassVar

from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.alerts import services
from apps.alerts.admin.forms import EndForm, SilenceForm
from apps.alerts.models import Silence
from apps.core.actor import Actor
from apps.core.admin import Change, GuardedModelAdmin, column


def _create(*, actor: Actor, values: dict[str, Any]) -> Silence:
    names = ("rule", "severity", "service", "dependency")
    return services.create_silence(
        [{"name": name, "value": values[name]} for name in names if values[name]],
        lease=values["lease"],
        reason=values["reason"],
        actor=actor,
    )


def _end(row: Silence, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Silence:
    return services.end_silence(row.pk, version=version, reason=values["reason"], actor=actor)


@admin.register(Silence)
class SilenceAdmin(GuardedModelAdmin):
    """Every silence one may see, the one that ends last first."""

    list_display = ("means", "state_badge", "starts_at", "ends_at", "author", "reason")
    list_filter = ("environment",)
    list_select_related = ("environment",)
    search_fields = ("reason", "author")
    ordering = ("-ends_at", "-pk")
    fields = (
        *("means", "environment", "state_badge", "starts_at", "ends_at", "author", "reason"),
        *("created_at", "version"),
    )
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Add silence"),
            scope="alerts:write",
            form=SilenceForm,
            apply=_create,
            submit=gettext_lazy("Hold messages back"),
            done=gettext_lazy("Messages are held back: %(object)s."),
            icon="notifications_off",
            intro=gettext_lazy(
                "Of alerts that all of this holds of, nobody is told. They are evaluated and "
                "resolved as ever."
            ),
        )
    }
    changes: ClassVar = {
        "end": Change(
            title=gettext_lazy("End"),
            scope="alerts:write",
            form=EndForm,
            apply=_end,
            submit=gettext_lazy("End now"),
            done=gettext_lazy("%(object)s: people are told again."),
            icon="notifications_active",
            offered=lambda row: row.state != "expired",
        )
    }

    @column(gettext_lazy("Alerts with"))
    def means(self, row: Silence) -> str:
        return str(row)

    @column(
        gettext_lazy("State"),
        badge={"active": "warning", "pending": "info", "expired": "success"},
    )
    def state_badge(self, row: Silence) -> tuple[str, Any]:
        words = {"active": _("active"), "pending": _("to come"), "expired": _("ended")}
        return row.state, words[row.state]
