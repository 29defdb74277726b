"""What people fill in to switch or change a flag."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.admin import GuardedForm
from apps.core.forms import (
    LeaseField,
    StrictJSONField,
    environment_field,
    reason_field,
    service_field,
)
from apps.degradation.models import Flag
from apps.fleet.models import Environment, Service


class EngageForm(GuardedForm):
    lease = LeaseField()
    reason = reason_field(such_as=gettext_lazy("primary failing over"))


class ExtendForm(GuardedForm):
    lease = LeaseField()
    reason = reason_field(required=False)


class EndForm(GuardedForm):
    reason = reason_field(such_as=gettext_lazy("primary is back"))


class ScopeForm(GuardedForm):
    """Where a flag holds: an environment, or one service of it."""

    environment = environment_field(Environment.objects.all())
    service = service_field(Service.objects.all())

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        service, environment = values.get("service"), values.get("environment")
        if service and environment and service.environment_id != environment.pk:
            self.add_error("service", _("This service is in another environment."))
        return values


class ReadOnlyForm(ScopeForm):
    lease = LeaseField()
    reason = reason_field(such_as=gettext_lazy("primary failing over"))


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
    reason = reason_field(required=False)
