"""Checks in the console: how everything is, its history, and a test on demand."""

from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.actor import Actor
from apps.core.admin import Change, GuardedForm, GuardedModelAdmin, column
from apps.core.forms import NamedChoice, environment_field, json_text, reason_field
from apps.fleet.models import Dependency, Environment
from apps.health import fields, rules, services, targets
from apps.health.models import Check, Result, Transition

COLOURS = {"up": "success", "degraded": "warning", "down": "danger", "unknown": "info"}
MARKS = {
    rules.OK: gettext_lazy("ok"),
    rules.IMPAIRED: gettext_lazy("impaired"),
    rules.FAILED: gettext_lazy("failed"),
}
SPANS = ((1, gettext_lazy("1 hour")), (6, gettext_lazy("6 hours")), (168, gettext_lazy("7 days")))
SHOWN = 15  # results and changes of status on a check's page
FIRST = ("environment", "name", "kind", "dependency", "address", "secret")  # fields of a form
_EXAMPLES = ", ".join(filter(None, targets.EXAMPLES.values()))


class CheckForm(GuardedForm):
    dependency = NamedChoice(
        label=gettext_lazy("Dependency"),
        queryset=Dependency.objects.all(),
        required=False,
        empty_label=gettext_lazy("none that services call"),
    )
    address = forms.CharField(
        label=gettext_lazy("Where it asks"),
        max_length=500,
        required=False,
        help_text=gettext_lazy("Without a password. Such as %s") % _EXAMPLES,
    )
    secret = forms.CharField(
        label=gettext_lazy("Password or bearer token"),
        max_length=targets.LONGEST_SECRET,
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=gettext_lazy("Kept sealed and never shown. Empty: as it is."),
    )
    interval_seconds = forms.FloatField(
        label=gettext_lazy("Asked, or expected, every … seconds"),
        min_value=1,
        max_value=2_678_400,
        required=False,
    )
    timeout_seconds = forms.FloatField(
        label=gettext_lazy("Deadline of one run, seconds"), min_value=0.1, max_value=30, initial=5
    )
    retry_seconds = forms.FloatField(
        label=gettext_lazy("Until it is sure, asked every … seconds"),
        min_value=1,
        max_value=3_600,
        initial=5,
    )
    failures_to_confirm = forms.IntegerField(
        label=gettext_lazy("Down after so many failures in a row"),
        min_value=1,
        max_value=10,
        required=False,
        help_text=gettext_lazy("Empty: as it is. Of a new one 3, of a heartbeat 1."),
    )
    successes_to_recover = forms.IntegerField(
        label=gettext_lazy("Up after so many successes in a row"),
        min_value=1,
        max_value=10,
        required=False,
        help_text=gettext_lazy("Empty: as it is. Of a new one 2, of a heartbeat 1."),
    )
    slow_seconds = forms.FloatField(
        label=gettext_lazy("Slow above … seconds"),
        min_value=0.001,
        max_value=30,
        required=False,
        help_text=gettext_lazy("Slow again and again it is degraded. Empty: never slow."),
    )
    parent = NamedChoice(
        label=gettext_lazy("Reached through"),
        queryset=Check.objects.all(),
        by="name",
        required=False,
        empty_label=gettext_lazy("no other check"),
        help_text=gettext_lazy("While that check is down, this one is unknown because of it."),
    )
    enabled = forms.BooleanField(label=gettext_lazy("It runs"), required=False, initial=True)

    def add_settings(self, *kinds: str) -> None:
        """Ask for the settings of these kinds, after the address."""
        for kind in kinds:
            self.fields |= fields.fields_of(kind, among_others=len(kinds) > 1)
        self.order_fields([*FIRST, *(name for name in self.fields if "." in name)])


class EditCheckForm(CheckForm):
    """Of a check, whose kind stays: `initial` says it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_settings(self.initial["kind"])


class NewCheckForm(CheckForm):
    environment = environment_field(Environment.objects.all())
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        help_text=gettext_lazy("Lower case, e.g. shop-db."),
    )
    kind = forms.ChoiceField(label=gettext_lazy("Kind"), choices=Check.Kind.choices)

    class Media:
        js = (forms.Script("js/health/kinds.js", type="module"),)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_settings(*targets.OPTIONS)


class TestForm(GuardedForm):
    reason = reason_field(required=False)


def _given(values: dict[str, Any], kind: str) -> dict[str, Any]:
    """What a form says of a check; a field left empty that means "as it is" says nothing."""
    values["settings"] = fields.taken_from(values, kind)
    unsaid = {"secret", "interval_seconds", "failures_to_confirm", "successes_to_recover"}
    return {name: value for name, value in values.items() if value or name not in unsaid}


def _create(*, actor: Actor, values: dict[str, Any]) -> Check:
    values.pop("environment")  # the actor is narrowed to it
    name, kind = values.pop("name"), values.pop("kind")
    with fields.told_at_fields(kind):
        return services.create_check(name, kind=kind, values=_given(values, kind), actor=actor)


def _update(row: Check, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Check:
    changes = _given(values, row.kind)
    with fields.told_at_fields(row.kind):
        return services.update_check(row.pk, version=version, changes=changes, actor=actor)


def _forget(row: Check, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Check:
    return services.update_check(row.pk, version=version, changes={"secret": None}, actor=actor)


def _delete(row: Check, *, actor: Actor, version: int | None, values: dict[str, Any]) -> None:
    services.delete_check(row.pk, version=version, actor=actor)


def _run(row: Check, *, actor: Actor, version: int | None, values: dict[str, Any]) -> str:
    check, outcome = services.run_check(row.pk, reason=values["reason"], actor=actor)
    took = _took(outcome.latency)
    said = ", ".join(filter(None, [outcome.detail, took]))
    words = {"check": check, "outcome": MARKS[outcome.mark], "said": said or "–"}
    return _("%(check)s: %(outcome)s (%(said)s)") % words


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return _("%.1f s") % seconds if seconds >= 10 else _("%.1f ms") % (1000 * seconds)


def _settings_of(row: Check) -> dict[str, Any]:
    names = {*CheckForm.base_fields, "kind"} - {"version", "secret"}
    return {name: getattr(row, name) for name in names} | fields.initial_of(row.kind, row.settings)


def _facts(row: Check, actor: Actor) -> list[tuple[Any, Any]]:
    state = f"{row.get_status_display()} · {row.detail}" if row.detail else row.get_status_display()
    return [(_("Kind"), row.get_kind_display()), (_("At present"), state)]


@admin.register(Check)
class CheckAdmin(GuardedModelAdmin):
    """Every check one may see, by name."""

    change_form_template = "health/check.html"
    list_display = (
        *("name", "state", "kind", "of", "latency", "successes", "detail", "observed_at"),
        "environment",
    )
    list_filter = ("status", "kind", "enabled", "environment")
    list_select_related = ("environment", "dependency", "parent")
    search_fields = ("name", "address", "dependency__slug", "detail")
    ordering = ("name",)
    fields = (
        *("name", "state", "since", "observed_at", "latency", "successes", "flaps", "detail"),
        "measured",
        *("kind", "environment", "of", "address", "secrecy", "chosen", "interval_seconds"),
        *("timeout_seconds", "retry_seconds", "failures_to_confirm", "successes_to_recover"),
        *("slow_seconds", "parent", "enabled", "created_at", "version"),
    )
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Add check"),
            scope="config:write",
            form=NewCheckForm,
            apply=_create,
            submit=gettext_lazy("Add"),
            done=gettext_lazy("%(object)s is there and runs at once."),
            icon="add",
            intro=gettext_lazy("Holdfast asks it again and again, and tells how it is."),
        )
    }
    changes: ClassVar = {
        "test": Change(
            title=gettext_lazy("Test now"),
            scope="config:write",
            form=TestForm,
            apply=_run,
            submit=gettext_lazy("Run it now"),
            done="%(object)s",
            icon="play_arrow",
            offered=lambda row: bool(row.address) or row.kind == Check.Kind.HOST,
            facts=_facts,
            intro=gettext_lazy("It waits for the answer, its deadline at most. The result counts."),
        ),
        "edit": Change(
            title=gettext_lazy("Edit"),
            scope="config:write",
            form=EditCheckForm,
            apply=_update,
            submit=gettext_lazy("Save"),
            done=gettext_lazy("%(object)s is changed and runs at once."),
            icon="tune",
            initial=_settings_of,
            facts=_facts,
        ),
        "forget-secret": Change(
            title=gettext_lazy("Remove the secret"),
            scope="config:write",
            form=GuardedForm,
            apply=_forget,
            submit=gettext_lazy("Remove"),
            done=gettext_lazy("%(object)s has no secret any more."),
            icon="key_off",
            offered=lambda row: row.has_secret,
        ),
        "delete": Change(
            title=gettext_lazy("Delete check"),
            scope="config:write",
            form=GuardedForm,
            apply=_delete,
            submit=gettext_lazy("Delete"),
            done=gettext_lazy("%(object)s is deleted."),
            dangerous=True,
            icon="delete",
            removes=True,
            intro=gettext_lazy("Its history goes with it; the audit log stays."),
        ),
    }

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        row = self.get_object(request, object_id) if object_id else None
        context = {**(extra_context or {}), **(_history(row) if row is not None else {})}
        if row is not None and row.kind == Check.Kind.HEARTBEAT:
            context["door"] = request.build_absolute_uri(reverse("check-ping", args=[row.pk]))
        return super().changeform_view(request, object_id, form_url, context)

    @column(gettext_lazy("State"), badge=COLOURS, order="status")
    def state(self, check: Check) -> tuple[str, Any]:
        if not check.enabled:
            return "unknown", _("waits for an address") if not check.address else _("off")
        text = check.get_status_display()
        if check.is_flapping:
            return "degraded", _("%(status)s, flapping") % {"status": text}
        return check.status, _("%s, not seen lately") % text if check.is_stale else text

    @column(gettext_lazy("Dependency"), order="dependency__slug")
    def of(self, check: Check) -> str:
        return check.dependency.slug if check.dependency else "–"

    @column(gettext_lazy("Latency"), order="latency_seconds")
    def latency(self, check: Check) -> str:
        return _took(check.latency_seconds) or "–"

    @column(gettext_lazy("Successes"))
    def successes(self, check: Check) -> str:
        rate = check.success_rate
        return "–" if rate is None else f"{100 * rate:.0f} %"

    @column(gettext_lazy("Flapping"))
    def flaps(self, check: Check) -> str:
        share = f"{100 * check.flapping_share:.0f} %"
        return _("%s: its status is held until it is calm") % share if check.is_flapping else share

    @column(gettext_lazy("Measured besides"))
    def measured(self, check: Check) -> str:
        return json_text(check.facts) if check.facts else "–"

    @column(gettext_lazy("Settings of the kind"))
    def chosen(self, check: Check) -> str:
        return json_text(check.settings) if check.settings else "–"

    @column(gettext_lazy("Secret"))
    def secrecy(self, check: Check) -> str:
        return _("kept sealed") if check.has_secret else _("none")


PHASES = {
    "resolve": gettext_lazy("name resolved"),
    "connect": gettext_lazy("connected"),
    "tls": gettext_lazy("encrypted"),
    "first_byte": gettext_lazy("first byte"),
    "body": gettext_lazy("body read"),
    "ping": gettext_lazy("pinged"),
    "read": gettext_lazy("read"),
    "write": gettext_lazy("written"),
    "round_trip": gettext_lazy("there and back"),
}


@dataclass(frozen=True)
class Phase:
    """One part of the last run's time, as drawn: per cent of the whole, from the left."""

    name: str
    title: Any
    took: str
    left: str
    width: str


def _phases(check: Check) -> list[Phase]:
    """What the last run spent its time on, in order; none if it did not get so far."""
    found: dict[str, float] = check.facts.get("phases", {})
    whole, drawn, before = sum(found.values()) or 1.0, [], 0.0
    order = list(PHASES)  # PostgreSQL keeps no order of members
    for name in sorted(found, key=lambda one: order.index(one) if one in PHASES else len(order)):
        seconds = found[name]
        left, width = (f"{100 * part / whole:.2f}%" for part in (before, seconds))
        title = PHASES.get(name, name)
        drawn.append(Phase(name, title, _took(seconds), left, width))
        before += seconds
    return drawn


def _history(check: Check) -> dict[str, Any]:
    """What a check's page shows of it: where the chart's points are, changes, results."""
    address = f"{reverse('check-history', args=[check.pk])}?environment={check.environment.slug}"
    results = Result.objects.filter(subject=check).order_by("-at", "-pk")[:SHOWN]
    moves = Transition.objects.filter(subject=check).order_by("-at", "-pk")[:SHOWN]
    return {
        "history": address,
        "phases": _phases(check),
        "total": _took(check.latency_seconds),
        "spans": SPANS,
        "runs": [
            (row.at, MARKS[row.mark], _took(row.latency_seconds), row.detail) for row in results
        ],
        "moves": moves,
    }
