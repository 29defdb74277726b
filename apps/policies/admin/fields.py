"""Form fields for settings and scopes; bounds and help come from `holdfast.spec`."""

import json
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.admin import GuardedForm
from apps.core.forms import NamedChoice, StrictJSONField, json_text, reason_field, service_field
from apps.fleet.models import Dependency, Service
from apps.policies import rules
from apps.policies.selectors import EffectiveValue
from holdfast.spec import Setting, clean_pattern

LONGEST_NUMBER = 40  # characters
NUMBERS = {"int", "seconds", "share", "number"}
SOURCES = {
    "default": gettext_lazy("library default"),
    "environment": gettext_lazy("environment"),
    "dependency": gettext_lazy("dependency"),
    "service": gettext_lazy("service"),
}


def label_of(setting: Setting) -> str:
    """A setting's name as people read it, with its unit."""
    name = setting.key.replace("_", " ").removesuffix(" seconds").capitalize()
    unit = {"s": _("seconds"), "share": _("share, 0 to 1")}.get(setting.unit, setting.unit)
    return f"{name} ({unit})" if unit and unit not in name.lower() else name


def shown(setting: Setting, value: Any) -> str:
    """A setting's value as people read it."""
    if setting.type == "choices" and value:
        return ", ".join(value)
    return plain(value)


def plain(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | dict):
        return compact(value) if value else _("none")
    return str(value)


def compact(value: Any) -> str:
    """A list or map on one line."""
    return json.dumps(value, ensure_ascii=False)


class NumberField(forms.CharField):
    """A number people type, judged by the setting's own rules; empty inherits."""

    def __init__(self, setting: Setting, **options: Any) -> None:
        super().__init__(max_length=LONGEST_NUMBER, **options)
        self.widget.attrs["inputmode"] = "numeric" if setting.type == "int" else "decimal"
        self.setting = setting

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            number: Any = float(text)
        except ValueError:
            number = text
        return _checked(self.setting, number)

    def prepare_value(self, value: Any) -> Any:
        return f"{value:g}" if isinstance(value, float) else value


class StructureField(StrictJSONField):
    """A list or map people type as JSON, judged by the setting's own rules; empty inherits."""

    def __init__(self, setting: Setting, **options: Any) -> None:
        super().__init__(max_length=rules.LARGEST_SETTINGS, **options)
        self.widget.attrs |= {"rows": "4", "spellcheck": "false"}
        self.setting = setting

    def clean(self, value: Any) -> Any:
        decoded = super().clean(value)
        return None if decoded is None else _checked(self.setting, decoded)

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) else json_text(value)


def _checked(setting: Setting, value: Any) -> Any:
    """The value as the database holds it; raises ValidationError that says the range."""
    cleaned, problems = clean_pattern(setting.pattern, {setting.key: value})
    if not problems:
        return cleaned[setting.key]
    texts = []
    for problem in problems:
        inside = problem.path.removeprefix(setting.path).lstrip(".")
        text = rules.sentence(problem.detail)
        texts.append(f"{inside}: {text}" if inside else text)
    raise forms.ValidationError(texts)


def field_of(setting: Setting) -> forms.Field:
    """The form field of a setting; left empty, the setting is inherited."""
    common: dict[str, Any] = {
        "label": label_of(setting),
        "required": False,
        "help_text": f"{setting.help} {_range(setting)}".strip(),
    }
    if setting.type in NUMBERS:
        return NumberField(setting, **common)
    if setting.type == "bool":
        choices = [("", _("inherit")), ("true", _("on")), ("false", _("off"))]
        return forms.TypedChoiceField(
            choices=choices, coerce=lambda text: text == "true", empty_value=None, **common
        )
    if setting.type == "choice":
        choices = [("", _("inherit")), *((choice, choice) for choice in setting.choices)]
        return forms.TypedChoiceField(choices=choices, empty_value=None, **common)
    return StructureField(setting, **common)


def _range(setting: Setting) -> str:
    if setting.bounds:
        return f"({setting.bounds})"
    if setting.type == "choices":
        return _('JSON, such as ["%(one)s"]; known: %(all)s.') % {
            "one": setting.choices[0],
            "all": ", ".join(setting.choices),
        }
    if setting.type == "strings":
        return _('JSON, such as ["card.number"]; at most %(most)d.') % {"most": setting.max_items}
    if setting.members:
        return _("JSON; each with %(members)s.") % {
            "members": ", ".join(member.key for member in setting.members)
        }
    return ""


def show_inherited(field: forms.Field, value: EffectiveValue) -> None:
    """Say in an empty field what holds while it is empty, and where that comes from."""
    text = shown(value.setting, value.value)
    source = SOURCES[value.source]
    if isinstance(field, forms.ChoiceField):
        inherit = _("inherit: %(value)s (%(source)s)") % {"value": text, "source": source}
        field.choices = [("", inherit), *list(field.choices)[1:]]  # type: ignore[arg-type]  # a plain list here
    else:
        field.widget.attrs["placeholder"] = f"{text} ({source})"


def dependency_field(*, required: bool = True) -> NamedChoice:
    nothing = gettext_lazy("every dependency of the environment")
    return NamedChoice(
        label=gettext_lazy("Dependency"),
        queryset=Dependency.objects.all(),
        required=required,
        empty_label=gettext_lazy("choose one") if required else nothing,
    )


class ReasonForm(GuardedForm):
    reason = reason_field()


class OptionalReasonForm(GuardedForm):
    reason = reason_field(required=False)


class DependencyForm(GuardedForm):
    """A dependency, everywhere or for one service's calls; its environment follows from it."""

    dependency = dependency_field()
    service = service_field(Service.objects.all())

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        dependency, service = values.get("dependency"), values.get("service")
        if dependency is not None:
            values["environment"] = dependency.environment
            if service is not None and service.environment_id != dependency.environment_id:
                self.add_error("service", _("This service is in another environment."))
        return values
