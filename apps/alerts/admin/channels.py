"""The pages of channels and of what they were told."""

from typing import Any, ClassVar

from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.alerts import services
from apps.alerts.admin.forms import ChannelForm, NewChannelForm, TestForm
from apps.alerts.models import Channel, Notification
from apps.core.actor import Actor
from apps.core.admin import Change, GuardedForm, GuardedModelAdmin, column
from apps.core.errors import Conflict


def _create(*, actor: Actor, values: dict[str, Any]) -> Channel:
    values.pop("environment")  # the actor is narrowed to it
    return services.create_channel(
        values.pop("name"),
        kind=values.pop("kind"),
        address=values.pop("address"),
        settings=values,
        actor=actor,
    )


def _update(row: Channel, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Channel:
    return services.update_channel(row.pk, version=version, changes=values, actor=actor)


def _delete(row: Channel, *, actor: Actor, version: int | None, values: dict[str, Any]) -> None:
    services.delete_channel(row.pk, version=version, actor=actor)


def _test(row: Channel, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Channel:
    sent = services.try_channel(row.pk, version=version, note=values["note"], actor=actor)
    if sent.status != Notification.Status.SENT:
        why = sent.log[-1]["outcome"] if sent.log else _("it was not tried")
        raise Conflict(_("It was not delivered: %(why)s.") % {"why": why})
    return row


def _wishes_of(row: Channel) -> dict[str, Any]:
    names = ("severities", "wants_switches", "wants_endings", "wants_ends", "enabled")
    return {name: getattr(row, name) for name in names}


@admin.register(Channel)
class ChannelAdmin(GuardedModelAdmin):
    """Every channel one may see."""

    list_display = ("name", "state", "kind", "shown_address", "wants", "environment")
    list_filter = ("enabled", "kind", "environment")
    list_select_related = ("environment",)
    search_fields = ("name", "shown_address")
    ordering = ("environment__slug", "name")
    fields = (
        *("name", "environment", "state", "kind", "shown_address", "wants", "disabled_reason"),
        *("created_at", "version"),
    )
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Add channel"),
            scope="alerts:write",
            form=NewChannelForm,
            apply=_create,
            submit=gettext_lazy("Add"),
            done=gettext_lazy("%(object)s is there: send a test."),
            icon="add",
        )
    }
    changes: ClassVar = {
        "test": Change(
            title=gettext_lazy("Send a test"),
            scope="alerts:write",
            form=TestForm,
            apply=_test,
            submit=gettext_lazy("Send now"),
            done=gettext_lazy("%(object)s took the message."),
            icon="send",
            intro=gettext_lazy("It is sent at once, and you see what happened."),
        ),
        "edit": Change(
            title=gettext_lazy("Settings"),
            scope="alerts:write",
            form=ChannelForm,
            apply=_update,
            submit=gettext_lazy("Save"),
            done=gettext_lazy("%(object)s is changed."),
            icon="tune",
            initial=_wishes_of,
        ),
        "delete": Change(
            title=gettext_lazy("Delete channel"),
            scope="alerts:write",
            form=GuardedForm,
            apply=_delete,
            submit=gettext_lazy("Delete"),
            done=gettext_lazy("%(object)s is deleted."),
            dangerous=True,
            icon="delete",
            removes=True,
            intro=gettext_lazy("With its delivery log; who deleted it stays in the audit log."),
        ),
    }

    @column(gettext_lazy("State"), badge={"on": "success", "off": "info", "gone": "danger"})
    def state(self, row: Channel) -> tuple[str, Any]:
        if row.enabled:
            return "on", _("enabled")
        return ("gone", _("disabled itself")) if row.disabled_reason else ("off", _("disabled"))

    @column(gettext_lazy("Wants"))
    def wants(self, row: Channel) -> str:
        words = [*row.severities]
        words += [_("switches")] if row.wants_switches else []
        words += [_("coming ends")] if row.wants_endings else []
        words += [_("ends")] if row.wants_ends else []
        return ", ".join(words) or "–"


@admin.register(Notification)
class NotificationAdmin(GuardedModelAdmin):
    """The delivery log, newest first."""

    list_display = ("title", "status_badge", "channel", "attempts", "last", "created_at")
    list_filter = ("status", "about", "environment")
    list_select_related = ("channel",)
    search_fields = ("title", "channel__name")
    ordering = ("-pk",)
    fields = (
        *("title", "environment", "channel", "status_badge", "body", "attempts", "attempted"),
        *("due_at", "created_at", "finished_at"),
    )
    readonly_fields = fields

    @column(
        gettext_lazy("Status"),
        badge={"sent": "success", "failed": "danger", "waiting": "warning", "silenced": "info"},
        order="status",
    )
    def status_badge(self, row: Notification) -> tuple[str, str]:
        return row.status, row.get_status_display()

    @column(gettext_lazy("Last attempt"))
    def last(self, row: Notification) -> str:
        return row.log[-1]["outcome"] if row.log else "–"

    @column(gettext_lazy("Attempts made"))
    def attempted(self, row: Notification) -> str:
        return "; ".join(
            f"{each['at']}: {each['outcome']} ({each['seconds']:g} s)" for each in row.log
        )
