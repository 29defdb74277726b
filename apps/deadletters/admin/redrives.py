"""What was given back, and how far that is."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.actor import Actor
from apps.core.admin import Change, GuardedModelAdmin, column
from apps.deadletters import services
from apps.deadletters.admin.forms import ReasonForm
from apps.deadletters.admin.shown import REDRIVE_COLOURS
from apps.deadletters.models import Redrive, RedriveItem

MOST_FAILURES = 20  # shown of one redrive


def _pause(redrive: Redrive, *, actor: Actor, version: int | None, values: Any) -> Redrive:
    return services.pause_redrive(redrive.pk, version=version, reason=values["reason"], actor=actor)


def _resume(redrive: Redrive, *, actor: Actor, version: int | None, values: Any) -> Redrive:
    return services.resume_redrive(
        redrive.pk, version=version, reason=values["reason"], actor=actor
    )


def _end(redrive: Redrive, *, actor: Actor, version: int | None, values: Any) -> Redrive:
    return services.end_redrive(redrive.pk, version=version, reason=values["reason"], actor=actor)


def _facts(redrive: Redrive, actor: Actor) -> list[tuple[Any, Any]]:
    return [
        (_("Waiting"), redrive.pending),
        (_("With their services, not touched"), redrive.claimed),
        (_("Done"), redrive.resolved + redrive.refailed + redrive.skipped),
    ]


@admin.register(Redrive)
class RedriveAdmin(GuardedModelAdmin):
    """Every redrive, newest first."""

    list_display = (
        "scope",
        "state_badge",
        "done",
        "failed",
        "reason",
        "requested_by",
        "created_at",
    )
    list_filter = ("state", "environment")
    list_select_related = ("environment",)
    search_fields = ("scope", "reason", "requested_by")
    ordering = ("-pk",)
    fields = (
        *("scope", "environment", "reason", "requested_by", "created_at", "ended_at", "version"),
    )
    readonly_fields = fields
    change_form_template = "deadletters/redrive.html"
    change_list_template = "deadletters/redrives.html"
    changes: ClassVar = {
        "pause": Change(
            title=gettext_lazy("Pause"),
            scope="redrives:write",
            form=ReasonForm,
            apply=_pause,
            done=gettext_lazy("%(object)s is paused."),
            icon="pause",
            offered=lambda redrive: redrive.state == "running",
            facts=_facts,
        ),
        "resume": Change(
            title=gettext_lazy("Resume"),
            scope="redrives:write",
            form=ReasonForm,
            apply=_resume,
            done=gettext_lazy("%(object)s runs again."),
            icon="play_arrow",
            offered=lambda redrive: redrive.state == "paused",
            facts=_facts,
        ),
        "end": Change(
            title=gettext_lazy("Cancel redrive"),
            scope="redrives:write",
            form=ReasonForm,
            apply=_end,
            submit=gettext_lazy("Cancel what waits"),
            done=gettext_lazy("%(object)s is cancelled."),
            dangerous=True,
            icon="stop",
            offered=lambda redrive: not redrive.is_over,
            facts=_facts,
            intro=gettext_lazy("Letters that still wait are as they were before."),
        ),
    }

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.progress)
        own = path("<path:object_id>/progress/", view, name="deadletters_redrive_progress")
        return [own, *super().get_urls()]

    def progress(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The part of the page that changes, as the page itself has it."""
        redrive = self.get_object(request, object_id)
        if redrive is None:
            raise Http404
        return TemplateResponse(request, "deadletters/_progress.html", _shown(redrive))

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        redrive = self.get_object(request, object_id) if object_id else None
        context = {**(_shown(redrive) if redrive else {}), **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, context)

    @column(gettext_lazy("state"), badge=REDRIVE_COLOURS, order="state")
    def state_badge(self, redrive: Redrive) -> tuple[str, str]:
        return redrive.state, redrive.get_state_display()

    @column(gettext_lazy("resolved"))
    def done(self, redrive: Redrive) -> str:
        done = {"resolved": redrive.resolved, "total": redrive.total}
        return _("%(resolved)d of %(total)d") % done

    @column(gettext_lazy("failed again"), badge={"some": "danger", "none": "success"})
    def failed(self, redrive: Redrive) -> tuple[str, str]:
        return ("some" if redrive.refailed else "none", str(redrive.refailed))


def _shown(redrive: Redrive) -> dict[str, Any]:
    failed = redrive.items.filter(state=RedriveItem.State.REFAILED).select_related("letter")
    return {
        "redrive": redrive,
        "percent": round(100 * redrive.progress),
        "failures": failed.defer("letter__body").order_by("-ended_at")[:MOST_FAILURES],
    }
