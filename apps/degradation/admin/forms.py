"""What people fill in to switch or change a flag."""

from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.admin import GuardedForm, StrictJSONField
from apps.degradation import rules
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


def lease_of(text: str) -> timedelta | None:
    return None if text == UNTIL_ENDED else timedelta(seconds=int(text))


class LeaseField(forms.ChoiceField):
    """How long a switch holds by itself; `lease_of` reads it."""

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
