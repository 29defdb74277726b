"""The inbox: letters by what failed alike."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Count
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.actor import Actor
from apps.core.admin import Change, GuardedModelAdmin, actor_of, column
from apps.deadletters import rules, selectors, services
from apps.deadletters.admin.forms import ReasonForm
from apps.deadletters.models import DeadLetter, Group, LetterStatus, Redrive
from apps.deadletters.services.writing import MOST_AT_ONCE


def _redrive(group: Group, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Redrive:
    return services.redrive_group(group.pk, reason=values["reason"], actor=actor)


def _discard(group: Group, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Group:
    services.discard_group(group.pk, reason=values["reason"], actor=actor)
    return group


def _by_status(group: Group) -> dict[str, int]:
    rows = DeadLetter.objects.filter(group=group).values_list("status")
    return dict(rows.annotate(count=Count("pk")).order_by())


def _hit(group: Group, statuses: frozenset[str], left_out: frozenset[str]) -> list[tuple[Any, Any]]:
    """How many letters a change hits, and which of the unresolved ones it leaves alone."""
    counts = _by_status(group)
    hit = min(sum(counts.get(status, 0) for status in statuses), MOST_AT_ONCE)
    facts: list[tuple[Any, Any]] = [
        (
            _("This hits"),
            _("%(count)d letters of %(service)s") % {"count": hit, "service": group.service},
        )
    ]
    for status in sorted(left_out):
        if counts.get(status):
            label = LetterStatus(status).label
            facts.append((_("Left alone: %(status)s") % {"status": label}, counts[status]))
    return facts


def _redrive_facts(group: Group, actor: Actor) -> list[tuple[Any, Any]]:
    facts = _hit(group, rules.IN_BULK, rules.UNRESOLVED - rules.IN_BULK)
    return [*facts, (_("Done again by"), group.handler)]


def _discard_facts(group: Group, actor: Actor) -> list[tuple[Any, Any]]:
    return _hit(group, rules.DISCARDABLE, rules.UNRESOLVED - rules.DISCARDABLE)


class WaitingFilter(admin.SimpleListFilter):
    """Groups with unresolved letters, unless somebody asks for the others."""

    title = gettext_lazy("unresolved letters")
    parameter_name = "waiting"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", gettext_lazy("some")), ("no", gettext_lazy("none"))]

    def queryset(self, request: Any, queryset: Any) -> Any:
        if self.value() == "yes":
            return queryset.filter(unresolved__gt=0)
        return queryset.filter(unresolved=0) if self.value() == "no" else queryset


@admin.register(Group)
class GroupAdmin(GuardedModelAdmin):
    """What failed alike, last seen first."""

    list_display = ("title", "waiting", "total", "service", "handler", "last_seen_at")
    list_filter = (WaitingFilter, "environment", "service", "error_class")
    list_select_related = ("environment", "service")
    search_fields = ("title", "error_class", "handler", "service__slug")
    ordering = ("-last_seen_at", "-pk")
    fields = (
        *("title", "waiting", "letters_link", "environment", "service", "handler", "error_class"),
        *("first_seen_at", "last_seen_at", "fingerprint"),
    )
    readonly_fields = fields
    change_list_template = "deadletters/inbox.html"
    changes: ClassVar = {
        "redrive": Change(
            title=gettext_lazy("Redrive group"),
            scope="redrives:write",
            form=ReasonForm,
            apply=_redrive,
            submit=gettext_lazy("Redrive now"),
            done=gettext_lazy("The redrive runs: Redrives shows how far it is."),
            icon="replay",
            offered=lambda group: group.unresolved > 0,
            facts=_redrive_facts,
            intro=gettext_lazy(
                "The letters that wait now go back to their service, oldest first. What fails from "
                "now on is not in it. A letter counts as resolved only when the service says so."
            ),
        ),
        "discard": Change(
            title=gettext_lazy("Discard group"),
            scope="redrives:write",
            form=ReasonForm,
            apply=_discard,
            submit=gettext_lazy("Discard them"),
            done=gettext_lazy("The letters of %(object)s are discarded."),
            dangerous=True,
            icon="delete",
            offered=lambda group: group.unresolved > 0,
            facts=_discard_facts,
            intro=gettext_lazy("Nobody does this work any more, unless it fails again."),
        ),
    }

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        causes = selectors.causes(actor_of(request).environment_ids)
        return super().changelist_view(request, {"causes": causes, **(extra_context or {})})

    @column(
        gettext_lazy("unresolved"), badge={"some": "danger", "none": "success"}, order="unresolved"
    )
    def waiting(self, group: Group) -> tuple[str, str]:
        return ("some", str(group.unresolved)) if group.unresolved else ("none", "0")

    @column(gettext_lazy("letters"), order="letters")
    def total(self, group: Group) -> int:
        return group.letters

    @column(gettext_lazy("letters"))
    def letters_link(self, group: Group) -> SafeString:
        address = reverse("admin:deadletters_deadletter_changelist")
        text = _("Show all %(count)d") % {"count": group.letters}
        return format_html('<a href="{}?group__id__exact={}">{}</a>', address, group.pk, text)
