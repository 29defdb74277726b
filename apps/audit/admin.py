"""Audit review in the console: who did what, what changed, and whether the chains hold."""

import json
from typing import Any

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.audit import rules, selectors
from apps.audit.models import Chain, Entry
from apps.core.admin import GuardedModelAdmin, column


@admin.register(Entry)
class EntryAdmin(GuardedModelAdmin):
    """Every entry one may see, newest first."""

    list_display = ("at", "outcome_badge", "action", "about", "actor", "reason", "revision")
    list_display_links = ("at", "action")
    list_filter = ("outcome", "actor_kind", "object_type", "action", "chain")
    list_select_related = ("chain",)
    search_fields = ("action", "object_label", "actor_label", "reason", "request_id")
    search_help_text = gettext_lazy("Action, object, person, reason or request id")
    date_hierarchy = "at"
    ordering = ("-at",)
    fields = (
        *("at", "outcome_badge", "action", "about", "actor", "source", "address", "reason"),
        *("difference", "revision", "request_id", "position", "previous", "hash"),
    )
    readonly_fields = fields

    def environment_of(self, row: Entry) -> int | None:
        return row.chain.environment_id

    @column(gettext_lazy("Outcome"), badge={"ok": "success", "denied": "danger"}, order="outcome")
    def outcome_badge(self, entry: Entry) -> tuple[str, str]:
        return entry.outcome, entry.get_outcome_display()

    @column(gettext_lazy("Object"), order="object_label")
    def about(self, entry: Entry) -> str:
        return f"{entry.object_type} {entry.object_label}"

    @column(gettext_lazy("Who"), order="actor_label")
    def actor(self, entry: Entry) -> str:
        return f"{entry.actor_label} ({entry.actor_kind})"

    @column(gettext_lazy("Came through"))
    def source(self, entry: Entry) -> str:
        return str(entry.content["source"])

    @column(gettext_lazy("Address"))
    def address(self, entry: Entry) -> str:
        return str(entry.content["address"]) or "–"

    @column(gettext_lazy("What changed"))
    def difference(self, entry: Entry) -> str | SafeString:
        return _table(rules.changed(entry.content["before"], entry.content["after"]))

    @column(gettext_lazy("Place in the chain"))
    def position(self, entry: Entry) -> SafeString:
        return format_html(
            '{} · <a href="{}">{}</a>',
            _("entry %(number)d of %(chain)s")
            % {"number": entry.sequence, "chain": entry.chain.name},
            reverse("admin:audit_chain_change", args=[entry.chain_id]),
            _("check the chain"),
        )

    @column(gettext_lazy("Hash of the entry before"))
    def previous(self, entry: Entry) -> str:
        return str(entry.content["previous"]) or _("none: the first entry")


@admin.register(Chain)
class ChainAdmin(GuardedModelAdmin):
    """The chains; opening one recomputes it."""

    list_display = ("name", "sequence")
    ordering = ("environment_id",)
    fields = ("name", "state", "head")
    readonly_fields = fields

    @column(gettext_lazy("State"), badge={"holds": "success", "broken": "danger"})
    def state(self, chain: Chain) -> tuple[str, str]:
        """Verified now, hash by hash; shown on the chain's own page only."""
        verdict = selectors.verify(chain)
        entries = f"{verdict.entries:,}"
        if verdict.broken is None:
            return "holds", _("holds, %(entries)s entries") % {"entries": entries}
        where = {"number": verdict.broken.sequence, "why": verdict.broken.why}
        return "broken", _("BROKEN at entry %(number)d: %(why)s") % where


def _table(changed: list[dict[str, Any]]) -> str | SafeString:
    if not changed:
        return _("nothing")
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td>{}</td><td>{}</td></tr>',
        ((each["field"], _shown(each["before"]), _shown(each["after"])) for each in changed),
    )
    return format_html(
        '<table class="hf-diff"><thead><tr><th scope="col">{}</th><th scope="col">{}</th>'
        '<th scope="col">{}</th></tr></thead><tbody>{}</tbody></table>',
        *(_("Field"), _("Before"), _("After")),
        rows,
    )


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
