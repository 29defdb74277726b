"""Tables of settings and of changes, for pages that only show."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.template.loader import render_to_string
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from apps.audit import rules as audit_rules
from apps.policies.admin.fields import SOURCES, label_of, plain, shown
from apps.policies.selectors import EffectiveValue


def settings_table(values: Sequence[EffectiveValue]) -> SafeString:
    """Each setting with its value, source, revision and author."""
    rows = [
        {
            "name": label_of(value.setting),
            "help": value.setting.help,
            "text": shown(value.setting, value.value),
            "source": SOURCES[value.source],
            "value": value,
            "at": datetime.fromisoformat(value.at) if value.at else None,
        }
        for value in values
    ]
    return render_to_string("policies/_settings.html", {"rows": rows})


def changed_text(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """What differs between two bodies: "attempts: 3 → 5, open_seconds: 20 → inherited"."""
    nothing = _("inherited")
    return ", ".join(
        f"{change['field']}: {_text(change['before'], nothing)} → {_text(change['after'], nothing)}"
        for change in audit_rules.changed(before, after)
    )


def _text(value: Any, nothing: str) -> str:
    if value is None:
        return nothing
    return plain(value)


def lines(texts: Sequence[str]) -> SafeString:
    """Texts below each other."""
    return format_html_join("", "<div>{}</div>", ((text,) for text in texts))
