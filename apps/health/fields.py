"""Form fields for the settings of a kind of check, made of what `targets.OPTIONS` says of them.

A field is called `<kind>.<setting>`. Left empty, its setting is as usual, whatever that will be.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django import forms
from django.utils.translation import gettext as _

from apps.core.errors import DomainError
from apps.core.forms import StrictJSONField, json_text
from apps.health.models import Check
from apps.health.targets import LONGEST_TEXT, OPTIONS, Option


def fields_of(kind: str, *, among_others: bool = False) -> dict[str, forms.Field]:
    """A field for each setting; `among_others`, the label says of which kind it is."""
    return {
        f"{kind}.{name}": _field(_label(kind, name, among_others=among_others), option)
        for name, option in OPTIONS[kind].items()
    }


def initial_of(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What is in those fields for settings as a check keeps them."""
    return {
        f"{kind}.{name}": value
        if isinstance(value, str | float) and not OPTIONS[kind][name].is_json
        else json_text(value)
        for name, value in settings.items()
    }


def taken_from(values: dict[str, Any], kind: str) -> dict[str, Any]:
    """The settings that were filled in; all fields of settings are gone from `values` then."""
    filled = {name: values.pop(name) for name in list(values) if "." in name}
    return {
        name: filled[f"{kind}.{name}"]
        for name in OPTIONS[kind]
        if filled.get(f"{kind}.{name}") not in (None, "")
    }


@contextmanager
def told_at_fields(kind: str) -> Iterator[None]:
    """Let a refusal name the fields of a form in place of settings."""
    try:
        yield
    except DomainError as error:
        error.errors = {
            f"{kind}.{name.removeprefix('settings.')}"
            if name.startswith("settings.")
            else name: texts
            for name, texts in error.errors.items()
        }
        raise


def _label(kind: str, name: str, *, among_others: bool) -> str:
    label = name.replace("_", " ")
    return f"{Check.Kind(kind).label}: {label}" if among_others else label.capitalize()


def _field(label: str, option: Option) -> forms.Field:
    common: dict[str, Any] = {"label": label, "required": False, "help_text": option.help}
    usual = _("as usual: %s") % _shown(option.default)
    if isinstance(option.default, bool):
        choices = [("", usual), ("true", _("on")), ("false", _("off"))]
        return forms.TypedChoiceField(
            choices=choices, coerce=lambda text: text == "true", empty_value=None, **common
        )
    if option.choices:
        choices = [("", usual), *((choice, choice) for choice in option.choices)]
        return forms.ChoiceField(choices=choices, **common)
    if option.is_json:
        text = _('JSON, such as true, 0 or "ok".')
        common["help_text"] = f"{option.help} {text}"
        return StrictJSONField(widget=forms.TextInput, max_length=LONGEST_TEXT, **common)
    if option.bounds is not None:
        least, most = option.bounds
        found: forms.Field = (
            forms.IntegerField(min_value=int(least), max_value=int(most), **common)
            if isinstance(option.default, int)
            else forms.FloatField(min_value=least, max_value=most, **common)
        )
    else:
        found = forms.CharField(max_length=LONGEST_TEXT, **common)
    if option.default not in (None, ""):
        found.widget.attrs["placeholder"] = usual
    return found


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return _("on") if value else _("off")
    return f"{value:g}" if isinstance(value, float) else str(value)
