"""What people fill in about alerts."""

from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from apps.alerts.models import Action, Channel, Rule
from apps.alerts.models.rule import Severity
from apps.alerts.rules import bounds
from apps.core.admin import GuardedForm
from apps.core.forms import NamedChoice, environment_field, reason_field, service_field
from apps.core.leases import LONGEST_REASON
from apps.fleet.models import Dependency, Environment, Service

TIMES = [
    ("900", gettext_lazy("15 minutes")),
    ("3600", gettext_lazy("1 hour")),
    ("14400", gettext_lazy("4 hours")),
    ("86400", gettext_lazy("1 day")),
    ("604800", gettext_lazy("1 week")),
]


class AcknowledgeForm(GuardedForm):
    note = forms.CharField(label=gettext_lazy("Note"), max_length=LONGEST_REASON, required=False)


def _time() -> forms.TypedChoiceField:
    return forms.TypedChoiceField(
        label=gettext_lazy("For"),
        choices=TIMES,
        coerce=lambda text: timedelta(seconds=int(text)),
        widget=forms.RadioSelect,
        initial="3600",
    )


class SilenceAlertForm(GuardedForm):
    """Of the alert it is opened from."""

    lease = _time()
    reason = reason_field()


class SilenceForm(GuardedForm):
    """What is left empty is not asked of an alert."""

    environment = environment_field(Environment.objects.all())
    rule = forms.CharField(
        label=gettext_lazy("Rule"),
        max_length=80,
        required=False,
        help_text=gettext_lazy("Its key, such as breaker-open."),
    )
    severity = forms.ChoiceField(
        label=gettext_lazy("Severity"), choices=[("", "–"), *Severity.choices], required=False
    )
    service = forms.CharField(label=gettext_lazy("Service"), max_length=80, required=False)
    dependency = forms.CharField(label=gettext_lazy("Dependency"), max_length=80, required=False)
    lease = _time()
    reason = reason_field()


class EndForm(GuardedForm):
    reason = reason_field()


def _whole(label: Any, least: int, most: int, help_text: Any = "") -> forms.IntegerField:
    return forms.IntegerField(
        label=label, min_value=least, max_value=most, help_text=help_text, initial=least
    )


class RuleSettingsForm(GuardedForm):
    """When a rule's alerts fire and resolve."""

    enabled = forms.BooleanField(label=gettext_lazy("Enabled"), required=False, initial=True)
    severity = forms.ChoiceField(label=gettext_lazy("Severity"), choices=Severity.choices)
    threshold = forms.FloatField(
        label=gettext_lazy("Threshold"),
        help_text=gettext_lazy("In seconds, as a share from 0 to 1 (0.05 is 5 %), or how many."),
    )
    resolve_threshold = forms.FloatField(
        label=gettext_lazy("Resolve threshold"),
        required=False,
        help_text=gettext_lazy("A firing alert is judged by this one. Empty: by the threshold."),
    )
    for_seconds = _whole(
        gettext_lazy("For, in seconds"),
        0,
        bounds.LONGEST_FOR,
        gettext_lazy("How long it must hold without a break."),
    )
    keep_firing_seconds = _whole(
        gettext_lazy("Keep firing, in seconds"),
        0,
        bounds.LONGEST_FOR,
        gettext_lazy("How long it must be over."),
    )
    min_samples = _whole(
        gettext_lazy("Fewest samples"),
        0,
        1_000_000,
        gettext_lazy("Of latency and errors: fewer than that say nothing."),
    )
    window_seconds = forms.IntegerField(
        label=gettext_lazy("Window, in seconds"),
        min_value=bounds.SHORTEST_WINDOW,
        max_value=bounds.LONGEST_WINDOW,
        initial=60,
        help_text=gettext_lazy("The time that is looked back on."),
    )
    no_data = forms.ChoiceField(
        label=gettext_lazy("Without data"),
        choices=Rule.NoData.choices,
        initial=Rule.NoData.KEEP_LAST,
    )
    runbook_url = forms.CharField(
        label=gettext_lazy("Runbook"),
        max_length=500,
        required=False,
        help_text=gettext_lazy("An address that says what to do."),
    )


class NewRuleForm(RuleSettingsForm):
    environment = environment_field(Environment.objects.all())
    key = forms.CharField(
        label=gettext_lazy("Key"),
        max_length=80,
        help_text=gettext_lazy("A name, such as checkout-slow."),
    )
    kind = forms.ChoiceField(label=gettext_lazy("Kind"), choices=Rule.Kind.choices)
    service = service_field(Service.objects.all())
    dependency = NamedChoice(
        label=gettext_lazy("Dependency"),
        queryset=Dependency.objects.all(),
        required=False,
        empty_label=gettext_lazy("every dependency of the environment"),
    )
    field_order = ("environment", "key", "kind", "service", "dependency")


class WishesForm(GuardedForm):
    """What a channel wants to hear of."""

    severities = forms.MultipleChoiceField(
        label=gettext_lazy("Alerts"),
        choices=Severity.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        initial=[Severity.CRITICAL, Severity.ERROR, Severity.WARNING],
    )
    wants_switches = forms.BooleanField(
        label=gettext_lazy("Flags and overrides that are engaged"), required=False
    )
    wants_endings = forms.BooleanField(
        label=gettext_lazy("Five minutes before they end"), required=False
    )
    wants_ends = forms.BooleanField(label=gettext_lazy("When they end"), required=False)
    enabled = forms.BooleanField(label=gettext_lazy("Enabled"), required=False, initial=True)


_ADDRESS = gettext_lazy(
    "A webhook's https:// address; mailto://user:password@server?from=…&to=…; or a URL of apprise. "
    "It is kept encrypted and never shown again."
)


class NewChannelForm(WishesForm):
    environment = environment_field(Environment.objects.all())
    name = forms.CharField(label=gettext_lazy("Name"), max_length=80)
    kind = forms.ChoiceField(label=gettext_lazy("Kind"), choices=Channel.Kind.choices)
    address = forms.CharField(
        label=gettext_lazy("Address"),
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=_ADDRESS,
    )
    field_order = ("environment", "name", "kind", "address")


class ChannelForm(WishesForm):
    address = forms.CharField(
        label=gettext_lazy("New address"),
        max_length=1000,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=_ADDRESS,
    )


class TestForm(GuardedForm):
    note = forms.CharField(
        label=gettext_lazy("Words of yours in the message"), max_length=200, required=False
    )


class ActionSettingsForm(GuardedForm):
    """How an action switches."""

    lease_seconds = _whole(
        gettext_lazy("Lease, in seconds"),
        bounds.SHORTEST_LEASE,
        bounds.LONGEST_LEASE,
        gettext_lazy("Renewed while the alert fires."),
    )
    max_lease_seconds = _whole(
        gettext_lazy("Longest time, in seconds"),
        bounds.SHORTEST_LEASE,
        bounds.LONGEST_LEASE,
        gettext_lazy("Since it was engaged; after that people decide."),
    )
    dependencies = forms.CharField(
        label=gettext_lazy("Dependencies"),
        required=False,
        max_length=10_000,
        help_text=gettext_lazy("Of a fallback flag: names, with commas between. Empty: all."),
    )
    mode = forms.ChoiceField(
        label=gettext_lazy("Mode"),
        choices=Action.Mode.choices,
        widget=forms.RadioSelect,
        initial=Action.Mode.SHADOW,
    )
    release_on_recovery = forms.BooleanField(
        label=gettext_lazy("Release on recovery"), required=False, initial=True
    )
    reason = reason_field(required=False)

    def clean_dependencies(self) -> list[str] | None:
        names = self.cleaned_data["dependencies"].replace(",", " ").split()
        return sorted(set(names)) or None


class RuleChoice(forms.ModelChoiceField):  # type: ignore[type-arg]  # generic in the stubs only
    """A rule, by environment and key."""

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.environment} · {obj}"


class NewActionForm(ActionSettingsForm):
    rule = RuleChoice(
        label=gettext_lazy("While this rule's alert fires"),
        queryset=Rule.objects.select_related("environment").order_by("environment__slug", "key"),
    )
    flag_key = forms.CharField(label=gettext_lazy("engage the flag"), max_length=80)
    flag_kind = forms.ChoiceField(
        label=gettext_lazy("of the kind"), choices=Action.FlagKind.choices
    )
    service = service_field(Service.objects.all())
    field_order = ("rule", "flag_key", "flag_kind", "service")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        rule, service = values.get("rule"), values.get("service")
        if rule is not None:
            values["environment"] = rule.environment
            if service is not None and service.environment_id != rule.environment_id:
                self.add_error("service", gettext_lazy("This service is in another environment."))
        return values


class FreezeForm(GuardedForm):
    reason = reason_field()
