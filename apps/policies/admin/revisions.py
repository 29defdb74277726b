"""Revisions in the console: who published what and why, and the way back.

They are kept by the publication app; going back is a change of settings, which that app does
not know, so their page is here.
"""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.actor import Actor
from apps.core.admin import Change, GuardedModelAdmin, column
from apps.core.changes import Danger
from apps.policies import selectors, services
from apps.policies.admin.dangers import new_dangers
from apps.policies.admin.fields import ReasonForm
from apps.policies.admin.tables import changed_text, lines
from apps.publication.models import Revision
from apps.publication.selectors import Difference, changes_of, differences

MOST_NAMED = 3  # pieces a row of the list names


def _roll_back(row: Revision, *, actor: Actor, version: int | None, values: dict[str, Any]) -> None:
    services.rollback(row.number, reason=values["reason"], actor=actor)


def _review(
    row: Revision, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> list[Danger]:
    return new_dangers(services.plan_rollback(row.number, actor=actor))


def _facts(row: Revision, actor: Actor) -> list[tuple[Any, Any]]:
    """What going back would change, setting by setting."""
    moves = selectors.moves_back_to(row)
    if not moves:
        return [(_("This changes"), _("nothing: the settings are the same now"))]
    return [(move.label, changed_text(move.before, move.after)) for move in moves]


def piece_label(difference: Difference) -> str:
    """A piece of the state as people call it."""
    where = " → ".join(filter(None, [difference.service, difference.dependency]))
    return " ".join(filter(None, [difference.part, difference.name, where and f"({where})"]))


@admin.register(Revision)
class RevisionAdmin(GuardedModelAdmin):
    """Every revision one may see, newest first."""

    list_display = ("number", "environment", "at", "actor_label", "what", "reason", "kind")
    list_filter = ("environment", "actor_kind")
    list_select_related = ("environment",)
    search_fields = ("actor_label", "reason")
    ordering = ("-pk",)
    fields = (
        *("number", "environment", "epoch", "at", "actor_label", "actor_kind", "reason"),
        *("restores", "what_changed"),
    )
    readonly_fields = fields
    changes: ClassVar = {
        "rollback": Change(
            title=gettext_lazy("Roll back to this revision"),
            scope="config:write",
            form=ReasonForm,
            apply=_roll_back,
            submit=gettext_lazy("Roll back now"),
            done=gettext_lazy("The settings of %(object)s are in force again."),
            dangerous=True,
            icon="history",
            facts=_facts,
            review=_review,
            intro=gettext_lazy(
                "Settings become what they were then, as a new revision. Flags and overrides "
                "stay as they are now."
            ),
        )
    }

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The list, with what each of its revisions changed read at once."""
        found = super().get_changelist_instance(request)
        rows = list(found.result_list)
        changed = changes_of(rows)
        for row in rows:
            row.pieces = changed.get(row.pk, [])
        found.result_list = rows
        return found

    @column(gettext_lazy("What"))
    def what(self, row: Any) -> str:
        named = [str(piece) for piece in row.pieces[:MOST_NAMED]]
        more = len(row.pieces) - MOST_NAMED
        return ", ".join(named) + (_(" and %d more") % more if more > 0 else "")

    @column(gettext_lazy("Kind"), badge={"restored": "warning"})
    def kind(self, row: Revision) -> tuple[str, str]:
        if row.restores is None:
            return "change", _("change")
        return "restored", _("back to %(number)d") % {"number": row.restores}

    @column(gettext_lazy("What changed"))
    def what_changed(self, row: Revision) -> SafeString:
        return lines(
            [
                f"{piece_label(found)}: {changed_text(found.before, found.after)}"
                for found in differences(row)
            ]
        )
