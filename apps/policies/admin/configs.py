"""One page per pattern: where settings are set, and which."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core.actor import Actor
from apps.core.admin import Change, GuardedForm, GuardedModelAdmin, column
from apps.core.changes import Danger
from apps.core.forms import environment_field, reason_field, service_field
from apps.fleet.models import Environment, Service
from apps.policies import selectors, services
from apps.policies.admin.dangers import new_dangers
from apps.policies.admin.fields import (
    OptionalReasonForm,
    dependency_field,
    field_of,
    show_inherited,
    shown,
)
from apps.policies.admin.tables import settings_table
from apps.policies.models import CONFIGS, Config, Scope
from apps.policies.services.writing import ABSENT
from holdfast.spec import PATTERNS


class SettingsForm(GuardedForm):
    """Every setting of a pattern; what is left empty is inherited, and says what that is."""

    pattern: ClassVar[str]

    def adapt_to(self, places: Mapping[str, Any]) -> None:
        inherited = self.initial.pop("inherited", None)
        if inherited is None:
            scope = _scope(places)
            known = scope and selectors.inherited_in(self.pattern, scope)
            inherited = known or selectors.defaults_of(self.pattern)
        for key, value in inherited.items():
            show_inherited(self.fields[key], value)


def _scope(places: Mapping[str, Any]) -> Scope | None:
    """The scope somebody chose; None while it is none."""
    environment, dependency, service = (
        places[name] for name in ("environment", "dependency", "service")
    )
    if environment is None or (service is not None and dependency is None):
        return None
    return Scope(environment.pk, dependency, service)


def forms_of(pattern: str) -> tuple[type[SettingsForm], type[SettingsForm]]:
    """The forms that set a pattern in a new scope and that change it."""
    settings: dict[str, Any] = {
        key: field_of(row) for key, row in PATTERNS[pattern].settings.items()
    }
    scope: dict[str, Any] = {
        "environment": environment_field(Environment.objects.all()),
        "dependency": dependency_field(required=False),
        "service": service_field(Service.objects.all()),
    }
    common = {"pattern": pattern, "reason": reason_field(required=False)}
    return (
        type("NewSettingsForm", (SettingsForm,), {**scope, **settings, **common}),
        type("ChangeSettingsForm", (SettingsForm,), {**settings, **common}),
    )


def _initial(row: Config) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(PATTERNS[row.pattern].settings)
    return {**nothing, **_typed(row.values), "inherited": selectors.inherited_by(row)}


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Values as the form's widgets spell them."""
    return {
        key: str(value).lower() if isinstance(value, bool) else value
        for key, value in values.items()
    }


def _change(row: Config, *, actor: Actor, version: int | None, values: dict[str, Any]) -> Config:
    reason = values.pop("reason")
    return services.set_config(
        row.pattern, scope=row.holds_in, values=values, version=version, reason=reason, actor=actor
    )


def _review_change(
    row: Config, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> list[Danger]:
    values.pop("reason")
    plan = services.plan_config(
        row.pattern, scope=row.holds_in, values=values, version=version, actor=actor
    )
    return new_dangers(plan.findings)


def _review_clear(
    row: Config, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> list[Danger]:
    plan = services.plan_config(
        row.pattern, scope=row.holds_in, values=None, version=version, actor=actor
    )
    return new_dangers(plan.findings)


def _clear(row: Config, *, actor: Actor, version: int | None, values: dict[str, Any]) -> None:
    services.clear_config(
        row.pattern, scope=row.holds_in, version=version, reason=values["reason"], actor=actor
    )


def _facts(row: Config, actor: Actor) -> list[tuple[Any, Any]]:
    reach = selectors.reach_of(row.holds_in)
    return [(_("Holds for"), row.holds_in), (_("Services it reaches"), reach or _("none yet"))]


def _listed(row: Config) -> str:
    """What is set in a row, on one line."""
    rows = PATTERNS[row.pattern].settings
    named = [f"{key} {shown(rows[key], value)}" for key, value in row.values.items()]
    return ", ".join(named) or _("nothing")


class ConfigAdmin(GuardedModelAdmin):
    """The settings of one pattern, in every scope they are set in."""

    pattern: ClassVar[str]

    list_display = ("where", "level", "environment", "set_here", "version")
    list_display_links = ("where",)
    list_filter = ("environment",)
    list_select_related = ("environment", "service", "dependency")
    search_fields = ("dependency__slug", "service__slug")
    ordering = ("environment__slug", "dependency__slug", "service__slug")
    fields = ("environment", "dependency", "service")
    readonly_fields = fields
    change_form_template = "policies/config.html"

    @column(gettext_lazy("Where"), order="dependency__slug")
    def where(self, row: Config) -> str:
        return str(row.holds_in)

    @column(gettext_lazy("Level"), badge={"service": "info", "dependency": "success"})
    def level(self, row: Config) -> tuple[str, str]:
        return row.holds_in.level, row.holds_in.level

    @column(gettext_lazy("Set here"))
    def set_here(self, row: Config) -> str:
        return _listed(row)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        row = self.get_object(request, object_id) if object_id else None
        table = "" if row is None else settings_table(selectors.values_of(row))
        context = {"table": table, **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, context)


def _preview(actor: Actor, places: Mapping[str, Any], pattern: str) -> list[tuple[Any, Any]]:
    """Where the settings chosen so far would hold, and what is set there already."""
    scope = _scope(places)
    if scope is None:
        return []
    reach = selectors.reach_of(scope)
    facts = [(_("Holds for"), scope), (_("Services it reaches"), reach or _("none yet"))]
    row = CONFIGS[pattern].objects.filter(**scope.lookup).first()
    if row is not None:
        facts.append((_("Set there already"), _listed(row)))
    return facts


def _creation(pattern: str, form: type[SettingsForm]) -> Change:
    def make(*, actor: Actor, values: dict[str, Any]) -> Config:
        environment = values.pop("environment")
        scope = Scope(environment.pk, values.pop("dependency"), values.pop("service"))
        reason = values.pop("reason")
        return services.set_config(
            pattern, scope=scope, values=values, version=ABSENT, reason=reason, actor=actor
        )

    def review(
        row: None, *, actor: Actor, version: int | None, values: dict[str, Any]
    ) -> list[Danger]:
        scope = Scope(values.pop("environment").pk, values.pop("dependency"), values.pop("service"))
        values.pop("reason")
        plan = services.plan_config(pattern, scope=scope, values=values, actor=actor)
        return new_dangers(plan.findings)

    return Change(
        title=_("Set %(pattern)s settings") % {"pattern": PATTERNS[pattern].title.lower()},
        scope="config:write",
        form=form,
        apply=make,
        submit=gettext_lazy("Publish"),
        done=gettext_lazy("%(object)s: set and published."),
        icon="add",
        review=review,
        preview=partial(_preview, pattern=pattern),
        intro=_("%(what)s An empty field inherits.") % {"what": PATTERNS[pattern].help},
    )


def _edit(form: type[SettingsForm]) -> Change:
    return Change(
        title=gettext_lazy("Edit"),
        scope="config:write",
        form=form,
        apply=_change,
        submit=gettext_lazy("Publish"),
        done=gettext_lazy("%(object)s: changed and published."),
        icon="tune",
        initial=_initial,
        facts=_facts,
        review=_review_change,
        intro=gettext_lazy("An empty field inherits. Services obey at once."),
    )


CLEAR = Change(
    title=gettext_lazy("Inherit everything"),
    scope="config:write",
    form=OptionalReasonForm,
    apply=_clear,
    submit=gettext_lazy("Remove these settings"),
    done=gettext_lazy("%(object)s: removed, everything is inherited."),
    dangerous=True,
    icon="undo",
    facts=_facts,
    review=_review_clear,
    removes=True,
)


def admin_of(pattern: str) -> type[ConfigAdmin]:
    """The console page of a pattern's settings."""
    create, change = forms_of(pattern)
    members = {
        "pattern": pattern,
        "creations": {"set": _creation(pattern, create)},
        "changes": {"edit": _edit(change), "clear": CLEAR},
    }
    return type("ConfigAdmin", (ConfigAdmin,), members)


for _pattern, _model in CONFIGS.items():
    admin.site.register(_model, admin_of(_pattern))
