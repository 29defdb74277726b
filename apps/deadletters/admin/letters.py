"""Single letters: look, acknowledge, redrive, give up."""

from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.actor import Actor
from apps.core.admin import Change, GuardedForm, GuardedModelAdmin, actor_of, column
from apps.core.db import visible_to
from apps.core.forms import json_text
from apps.deadletters import rules, services
from apps.deadletters.admin.forms import MOST_SELECTED, NoteForm, ReasonForm, SelectedForm
from apps.deadletters.admin.shown import LETTER_COLOURS, verbatim
from apps.deadletters.models import DeadLetter, Redrive

CONTENT = ("headers_text", "body_text")  # for those who may redrive it


def _acknowledge(
    letter: DeadLetter, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> DeadLetter:
    return services.acknowledge_letter(
        letter.pk, version=version, reason=values["reason"], actor=actor
    )


def _redrive(
    letter: DeadLetter, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> Redrive:
    return services.redrive_letters([letter.pk], reason=values["reason"], actor=actor)


def _discard(
    letter: DeadLetter, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> DeadLetter:
    return services.discard_letter(letter.pk, version=version, reason=values["reason"], actor=actor)


def _redrive_selected(*, actor: Actor, values: dict[str, Any]) -> Redrive:
    keys = [letter.pk for letter in values["letters"]]
    return services.redrive_letters(keys, reason=values["reason"], actor=actor)


def _facts(letter: DeadLetter, actor: Actor) -> list[tuple[Any, Any]]:
    return [
        (_("This hits"), _("1 letter of %(service)s") % {"service": letter.service}),
        (_("Done again by"), letter.handler),
        (_("At present"), letter.get_status_display()),
        (_("Redrives that failed in a row"), letter.redrive_count),
    ]


@admin.action(description=gettext_lazy("Redrive the selected letters"))
def redrive_selected(
    page: "DeadLetterAdmin", request: HttpRequest, chosen: QuerySet[DeadLetter]
) -> HttpResponseRedirect | None:
    """Lead to the page that asks for a reason; nothing is written here."""
    keys = list(chosen.values_list("pk", flat=True)[: MOST_SELECTED + 1])
    if len(keys) > MOST_SELECTED:
        text = _("Select %(most)d letters at most, or redrive their group.")
        messages.error(request, text % {"most": MOST_SELECTED})
        return None
    query = urlencode({"letters": keys}, doseq=True)
    return HttpResponseRedirect(f"{page.address_of('redrive-selected')}?{query}")


BRIEF = 12  # characters of a key in the list


@admin.register(DeadLetter)
class DeadLetterAdmin(GuardedModelAdmin):
    """Every letter, newest first."""

    list_display = (
        *("handler", "status_badge", "service", "error_class", "reason_text", "attempts"),
        *("last_failed_at", "brief_key"),
    )
    list_filter = ("status", "environment", "service", "reason", "dependency", "group")
    list_select_related = ("environment", "service")
    search_fields = (
        *("dedup_key", "error_class", "error_message", "handler", "correlation_id"),
        "idempotency_key",
    )
    ordering = ("-captured_at", "-pk")
    fields = (
        *("dedup_key", "status_badge", "status_changed_at", "discard_reason", "group_link"),
        *("environment", "service", "handler", "dependency", "reason_text", "error_class"),
        *("error_message_text", "stack_text", "attempts", "first_failed_at", "last_failed_at"),
        *("captured_at", "redrive_count", "idempotency_key", "correlation_id", "revision"),
        *("instance_id", "redacted_text", "body_facts"),
        *CONTENT,
    )
    readonly_fields = fields
    change_list_template = "deadletters/letters.html"
    actions = (redrive_selected,)
    creations: ClassVar = {
        "redrive-selected": Change(
            title=gettext_lazy("Redrive selected letters"),
            scope="redrives:write",
            form=SelectedForm,
            apply=_redrive_selected,
            submit=gettext_lazy("Redrive now"),
            done=gettext_lazy("The redrive runs: %(object)s."),
            icon="replay",
            intro=gettext_lazy(
                "They go back to their services. A letter counts as resolved only when its service "
                "says so."
            ),
        ),
    }
    changes: ClassVar = {
        "redrive": Change(
            title=gettext_lazy("Redrive"),
            scope="redrives:write",
            form=ReasonForm,
            apply=_redrive,
            submit=gettext_lazy("Redrive now"),
            done=gettext_lazy("%(object)s goes back to its service."),
            icon="replay",
            offered=lambda letter: letter.status in rules.REDRIVABLE,
            facts=_facts,
            intro=gettext_lazy(
                "It goes back to its service with the same idempotency key, and counts as resolved "
                "only when the service says so."
            ),
        ),
        "acknowledge": Change(
            title=gettext_lazy("Acknowledge"),
            scope="redrives:write",
            form=NoteForm,
            apply=_acknowledge,
            submit=gettext_lazy("I look after it"),
            done=gettext_lazy("%(object)s is acknowledged."),
            icon="visibility",
            offered=lambda letter: letter.status in rules.ACKNOWLEDGEABLE,
            facts=_facts,
        ),
        "discard": Change(
            title=gettext_lazy("Discard"),
            scope="redrives:write",
            form=ReasonForm,
            apply=_discard,
            submit=gettext_lazy("Discard it"),
            done=gettext_lazy("%(object)s is discarded."),
            dangerous=True,
            icon="delete",
            offered=lambda letter: letter.status in rules.DISCARDABLE,
            facts=_facts,
            intro=gettext_lazy("Nobody does this work any more, unless it fails again."),
        ),
    }

    def address_of(self, name: str) -> str:
        return self._address(name)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("body", "headers", "error_stack")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Headers and body are for those who may redrive the letter."""
        if obj is not None and not actor_of(request, obj.environment_id).may("redrives:write"):
            return [name for name in self.fields if name not in CONTENT]
        return self.fields

    def get_actions(self, request: HttpRequest) -> Any:
        found = super().get_actions(request)
        return found if self.may_somewhere(request, "redrives:write") else {}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Without the button of what begins with a selection."""
        return super().changelist_view(request, {**(extra_context or {}), "offered": []})

    def _form(self, request: HttpRequest, change: Change, row: Any) -> GuardedForm:
        form = super()._form(request, change, row)
        if row is None:
            given = request.POST if request.method == "POST" else request.GET
            keys = [key for key in given.getlist("letters") if key.isascii() and key.isdigit()]
            chosen = DeadLetter.objects.filter(pk__in=keys[:MOST_SELECTED])
            rows = visible_to(chosen.select_related("environment", "service"), actor_of(request))
            form.fields["letters"].queryset = rows.defer("body", "headers", "error_stack")  # type: ignore[attr-defined]  # of this form
            form.initial["letters"] = keys
        return form

    @column(gettext_lazy("Key"), order="dedup_key")
    def brief_key(self, row: DeadLetter) -> str:
        """Enough of it to tell letters apart; the letter's own page has it whole."""
        key = row.dedup_key
        return key if len(key) <= BRIEF else f"{key[:BRIEF]}…"

    @column(gettext_lazy("status"), badge=LETTER_COLOURS, order="status")
    def status_badge(self, letter: DeadLetter) -> tuple[str, str]:
        return letter.status, letter.get_status_display()

    @column(gettext_lazy("reason"), order="reason")
    def reason_text(self, letter: DeadLetter) -> str:
        return letter.get_reason_display()

    @column(gettext_lazy("group"))
    def group_link(self, letter: DeadLetter) -> SafeString:
        address = reverse("admin:deadletters_group_change", args=[letter.group_id])
        return format_html('<a href="{}">{}</a>', address, letter.group)

    @column(gettext_lazy("error"))
    def error_message_text(self, letter: DeadLetter) -> Any:
        return verbatim(letter.error_message)

    @column(gettext_lazy("stack"))
    def stack_text(self, letter: DeadLetter) -> Any:
        return verbatim(letter.error_stack)

    @column(gettext_lazy("redacted"))
    def redacted_text(self, letter: DeadLetter) -> str:
        return ", ".join(letter.redacted) or _("nothing")

    @column(gettext_lazy("body"))
    def body_facts(self, letter: DeadLetter) -> str:
        kind = letter.body_type or _("no content type")
        facts = {"size": letter.body_size, "kind": kind, "hash": letter.body_sha256}
        return _("%(size)d bytes, %(kind)s, SHA-256 %(hash)s") % facts

    @column(gettext_lazy("headers"))
    def headers_text(self, letter: DeadLetter) -> Any:
        return verbatim(json_text(letter.headers) if letter.headers else "")

    @column(gettext_lazy("content of the body"))
    def body_text(self, letter: DeadLetter) -> Any:
        return verbatim(letter.body_text())
