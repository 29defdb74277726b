"""What is in effect for a service, and presets, in the console."""

from itertools import groupby
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Value
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core import clock
from apps.core.actor import Actor
from apps.core.admin import Change, GuardedModelAdmin, column
from apps.core.changes import Danger
from apps.core.forms import reason_field
from apps.fleet.models import Usage
from apps.policies import rules, selectors, services
from apps.policies.admin.dangers import dangers_of, new_dangers
from apps.policies.admin.fields import DependencyForm, shown
from apps.policies.admin.tables import settings_table
from apps.policies.models import CONFIGS, Config, Override, Scope, ServicePolicy
from apps.policies.rules import Calls
from holdfast.spec import PATTERNS, PRESETS, Preset, setting


def _described(preset: Preset) -> SafeString:
    """A preset with what it sets, and what of it this version cannot hold."""
    sets = [
        f"{path} {shown(setting(path), value)}"
        for pattern, values in preset.settings.items()
        for path, value in ((f"{pattern}.{key}", value) for key, value in values.items())
        if pattern in CONFIGS
    ]
    text = ", ".join(sets)
    if left_out := rules.left_out_of(preset.settings, CONFIGS):
        text += _(" (not yet: %(names)s)") % {"names": ", ".join(left_out)}
    return format_html("<span><strong>{}</strong><br>{}</span>", preset.title, text)


class PresetForm(DependencyForm):
    preset = forms.ChoiceField(
        label=gettext_lazy("Preset"),
        choices=[(key, _described(preset)) for key, preset in PRESETS.items()],
        widget=forms.RadioSelect,
    )
    check_address = forms.CharField(
        label=gettext_lazy("Where its check asks"),
        max_length=500,
        required=False,
        help_text=gettext_lazy(
            "Such as https://api.example.com/health. Empty: the check is added, and waits for it."
        ),
    )
    reason = reason_field(required=False)
    field_order = ("dependency", "service", "preset", "check_address", "reason")


def _scope(values: dict[str, Any]) -> Scope:
    return Scope(values["environment"].pk, values["dependency"], values["service"])


def _review(
    row: None, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> list[Danger]:
    return new_dangers(services.plan_preset(values["preset"], scope=_scope(values), actor=actor))


def _apply(*, actor: Actor, values: dict[str, Any]) -> str:
    scope = _scope(values)
    applied = services.apply_preset(
        values["preset"],
        scope=scope,
        reason=values["reason"],
        check_address=values["check_address"],
        actor=actor,
    )
    if applied.revision is None:
        text = _("%(preset)s for %(scope)s was set already.")
    else:
        text = _("%(preset)s is set for %(scope)s, revision %(revision)d.")
    told = text % {
        "preset": applied.preset.title,
        "scope": scope,
        "revision": applied.revision or 0,
    }
    if applied.has_new_check:
        told += " " + _("Its check is there too.")
    if applied.left_out:
        told += " " + _("Not set, because this version cannot hold it: %(names)s.") % {
            "names": ", ".join(applied.left_out)
        }
    return told


@admin.register(ServicePolicy)
class ServicePolicyAdmin(GuardedModelAdmin):
    """Services, looked at for what they must do."""

    change_form_template = "policies/effective.html"
    list_display = ("slug", "environment", "dependencies", "overrides", "owner")
    list_filter = ("environment",)
    list_select_related = ("environment",)
    search_fields = ("slug", "owner")
    fields = ("slug", "environment", "owner", "description")
    readonly_fields = fields
    creations: ClassVar = {
        "apply-preset": Change(
            title=gettext_lazy("Apply a preset"),
            scope="config:write",
            form=PresetForm,
            apply=_apply,
            review=_review,
            submit=gettext_lazy("Publish"),
            done="%(object)s",
            icon="auto_fix_high",
            intro=gettext_lazy(
                "Settings known to suit a dependency. What it does not name stays as it is."
            ),
        )
    }

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        uses = Usage.objects.filter(service=OuterRef("pk"))
        its = Usage.objects.filter(service=OuterRef(OuterRef("pk")))
        overrides = Override.objects.in_force(clock.now()).filter(
            Q(service=None) | Q(service=OuterRef("pk")),
            dependency__in=its.values("dependency"),
        )
        rows = super().get_queryset(request)
        counted: QuerySet[Any] = rows.annotate(
            n_dependencies=_count(uses), n_overrides=_count(overrides)
        )
        return counted

    @column(gettext_lazy("Dependencies"))
    def dependencies(self, row: Any) -> int:
        return row.n_dependencies or 0

    @column(gettext_lazy("Overrides"), badge={"some": "danger"})
    def overrides(self, row: Any) -> tuple[str, Any]:
        if not row.n_overrides:
            return "none", _("none")
        return "some", _("%d in force") % row.n_overrides

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        row = self.get_object(request, object_id) if object_id else None
        shown_policies = [] if row is None else _policies(row)
        context = {"policies": shown_policies, **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, context)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A service's policy has the history of the service's settings: who published what."""
        return HttpResponseRedirect(reverse("admin:publication_revision_changelist"))


def _count(rows: QuerySet[Any]) -> Subquery:
    """How many rows a correlated query finds, as an annotation; none is null."""
    together = rows.order_by().annotate(together=Value(1)).values("together")
    return Subquery(together.annotate(n=Count("pk")).values("n"))


def _policies(service: ServicePolicy) -> list[dict[str, Any]]:
    """Per dependency: what is in effect and dangerous, and the way to the page that changes it."""
    findings = selectors.findings_of_service(service)
    return [
        {
            **_policy(policy, _place(service, policy.dependency_id)),
            "dangers": dangers_of(
                finding
                for finding in findings
                if Calls(service.slug, policy.dependency) in finding.calls
            ),
        }
        for policy in selectors.effective(service)
    ]


def _policy(policy: selectors.EffectivePolicy, place: dict[str, int]) -> dict[str, Any]:
    return {
        "dependency": policy.dependency,
        "override": policy.override,
        "engage": _address("override", "engage", place),
        "preset": _address("servicepolicy", "apply-preset", place),
        "patterns": [
            {
                "title": PATTERNS[pattern].title,
                "is_set": any(value.is_set for value in values),
                "table": settings_table(values),
                "edit": _edit(pattern, policy.own.get(pattern), place),
            }
            for pattern, values in _by_pattern(policy)
        ],
    }


def _by_pattern(
    policy: selectors.EffectivePolicy,
) -> list[tuple[str, list[selectors.EffectiveValue]]]:
    grouped = groupby(policy.values, key=lambda value: value.setting.pattern)
    return [(pattern, list(values)) for pattern, values in grouped]


def _place(service: ServicePolicy, dependency_id: int) -> dict[str, int]:
    return {
        "environment": service.environment_id,
        "dependency": dependency_id,
        "service": service.pk,
    }


def _edit(pattern: str, row: Config | None, place: dict[str, int]) -> str:
    """The page that changes what this service has of a pattern, or sets something first."""
    name = f"{pattern.replace('_', '')}config"
    if row is not None:
        return reverse(f"admin:policies_{name}_edit", args=[row.pk])
    return _address(name, "set", place)


def _address(model: str, page: str, place: dict[str, int]) -> str:
    return f"{reverse(f'admin:policies_{model}_{page}')}?{urlencode(place)}"
