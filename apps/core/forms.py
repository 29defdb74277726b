"""Fields that several pages of the console share, and refusals as their errors."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from django import forms
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.errors import DomainError
from apps.core.leases import DEFAULT_LEASE, LONGEST_REASON

UNTIL_ENDED = "0"
LEASES = [
    ("900", gettext_lazy("15 minutes")),
    ("1800", gettext_lazy("30 minutes")),
    ("3600", gettext_lazy("1 hour")),
    ("14400", gettext_lazy("4 hours")),
    (UNTIL_ENDED, gettext_lazy("until I end it")),
]


def _as_lease(text: str) -> timedelta | None:
    return None if text == UNTIL_ENDED else timedelta(seconds=int(text))


class LeaseField(forms.TypedChoiceField):
    """How long a switch holds by itself: a timedelta, or None for "until somebody ends it"."""

    def __init__(self) -> None:
        super().__init__(
            label=gettext_lazy("Ends by itself after"),
            choices=LEASES,
            coerce=_as_lease,
            widget=forms.RadioSelect,
            initial=f"{DEFAULT_LEASE.total_seconds():.0f}",
            help_text=gettext_lazy("Services end it on their own clocks, even without Holdfast."),
        )


def environment_field(environments: models.QuerySet[Any]) -> forms.ModelChoiceField:  # type: ignore[type-arg]  # generic in the stubs only
    return forms.ModelChoiceField(
        label=gettext_lazy("Environment"), queryset=environments.order_by("slug")
    )


def service_field(services: models.QuerySet[Any]) -> "NamedChoice":
    """One service, or every one."""
    return NamedChoice(
        label=gettext_lazy("Service"),
        queryset=services,
        required=False,
        empty_label=gettext_lazy("every service of the environment"),
    )


class StrictJSONField(forms.CharField):
    """JSON that people type: refused in words, whatever it holds; empty is None.

    Its initial value is text; see `json_text`.
    """

    widget = forms.Textarea

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text.strip():
            return None
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise forms.ValidationError(
                _("This is not valid JSON: %(why)s") % {"why": error}
            ) from error


def json_text(value: Any) -> str:
    """A value as people read and edit it; None is the empty text."""
    return "" if value is None else msgspec.json.format(msgspec.json.encode(value)).decode()


def reason_field(*, such_as: Any = "", required: bool = True) -> forms.CharField:
    """Why, with an example of one; people read it on the wall and in the audit log."""
    return forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=LONGEST_REASON,
        required=required,
        widget=forms.TextInput(attrs={"placeholder": such_as}),
        help_text=gettext_lazy("Shown with the change and kept in the audit log."),
    )


class NamedChoice(forms.ModelChoiceField):  # type: ignore[type-arg]  # generic in the stubs only
    """Something of an environment, by environment and name."""

    def __init__(self, *, queryset: models.QuerySet[Any], by: str = "slug", **options: Any) -> None:
        rows = queryset.select_related("environment").order_by("environment__slug", by)
        super().__init__(queryset=rows, **options)

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.environment} · {obj}"


def places_in(query: Mapping[str, str], form: type[forms.Form]) -> dict[str, str]:
    """What an address may fill in: where, never what. People follow links others sent them."""
    return {
        name: query[name]
        for name, field in form.base_fields.items()
        if isinstance(field, forms.ModelChoiceField) and name in query
    }


def places_of(form: forms.Form) -> dict[str, Any]:
    """The rows chosen in a form that need not be valid yet; None where there is none."""
    found: dict[str, Any] = {}
    for name, field in form.fields.items():
        if isinstance(field, forms.ModelChoiceField):
            try:
                found[name] = field.to_python(form[name].value())
            except forms.ValidationError:
                found[name] = None
    return found


def add_to_form(form: forms.Form, error: DomainError) -> None:
    """Show a refusal where the person can mend it: beside its fields, else above the form.

    Above it stand the reasons that are about something the form does not ask, by its name.
    """
    placed = [field for field in error.errors if field in form.fields]
    for field in placed:
        for text in error.errors[field]:
            form.add_error(field, text)
    if not placed:
        form.add_error(None, error.detail or _("The change was refused."))
    for name, texts in error.errors.items():
        if "." in name and name not in placed:  # the full name of a setting of another pattern
            for text in texts:
                form.add_error(None, f"{name}: {text}")
