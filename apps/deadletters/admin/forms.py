"""What people fill in to redrive or to give up."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.admin import GuardedForm
from apps.core.forms import reason_field
from apps.deadletters.models import DeadLetter

MOST_SELECTED = 200  # letters chosen in a list


class ReasonForm(GuardedForm):
    reason = reason_field(such_as=gettext_lazy("the provider is back"))


class NoteForm(GuardedForm):
    reason = reason_field(required=False)


class Chosen(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # generic in the stubs only
    """Letters, by what people know them by."""

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj} · {obj.service} · {obj.error_class} · {obj.get_status_display()}"


class SelectedForm(GuardedForm):
    """Letters that were chosen in the list."""

    letters = Chosen(
        label=gettext_lazy("These letters"),
        queryset=DeadLetter.objects.none(),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": gettext_lazy("Choose letters in the list first.")},
    )
    reason = reason_field(such_as=gettext_lazy("the provider is back"))

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        letters = list(values.get("letters", ()))
        if len({letter.environment_id for letter in letters}) > 1:
            self.add_error("letters", _("Choose letters of one environment."))
        elif letters:
            values["environment"] = letters[0].environment
        return values
