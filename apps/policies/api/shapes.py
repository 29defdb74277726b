"""Serializers for the settings of each pattern, made from `holdfast.spec`."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.actor import Actor
from apps.core.api import Strict
from apps.core.leases import LONGEST_REASON
from apps.fleet.selectors import named_dependency, named_service
from apps.policies import rules, selectors
from apps.policies.api.findings import (
    MOST_CALLS,
    MOST_FINDINGS,
    CallsOut,
    FindingOut,
    PlannedFindingOut,
    each_as,
    told,
)
from apps.policies.models import Config, Scope
from apps.policies.services import Plan, PlannedChange
from holdfast.spec import PATTERNS, clean_pattern, json_schema, setting

REASON = serializers.CharField(
    max_length=LONGEST_REASON,
    required=False,
    default="",
    allow_blank=True,
    help_text="Why; shown with the revision and kept in the audit log.",
)


class SettingField(serializers.Field[Any, Any, Any, Any]):
    """One setting, held to the type and bounds `holdfast.spec` gives it; null inherits."""

    def __init__(self, path: str) -> None:
        super().__init__(required=False, allow_null=True)
        self.setting = setting(path)

    def to_internal_value(self, data: Any) -> Any:
        key = self.setting.key
        cleaned, problems = clean_pattern(self.setting.pattern, {key: data})
        if not problems:
            return cleaned[key]
        errors: dict[str, list[str]] = {}
        for problem in problems:
            inside = problem.path.removeprefix(self.setting.path).lstrip(".")
            errors.setdefault(inside, []).append(rules.sentence(problem.detail))
        raise serializers.ValidationError(errors.get("") or errors)

    def to_representation(self, value: Any) -> Any:
        return value


class SettingSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]  # untyped library
    """OpenAPI of a setting: its JSON Schema; that null is allowed is added by the caller."""

    target_class = SettingField

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        row = self.target.setting
        schema = dict(_pattern_schema(row.pattern)["properties"][row.key])
        schema["x-default"] = schema.pop("default")  # of the SDK, not of this request
        return {"type": "string", **schema}  # of choices the schema names the values only


@cache
def _pattern_schema(pattern: str) -> dict[str, Any]:
    document = json_schema()["properties"]["dependencies"]["additionalProperties"]
    return dict(document["properties"][pattern])


class SettingsShape(Strict):
    """The settings of one pattern: those that are set."""

    def to_representation(self, instance: Any) -> Any:
        return instance


class ScopeIn(Strict):
    """Where something holds, by names: nothing, a dependency, or a service and a dependency."""

    service = serializers.CharField(
        max_length=80, allow_null=True, default=None, help_text="Slug; null: every service."
    )
    dependency = serializers.CharField(
        max_length=80, allow_null=True, default=None, help_text="Slug; null: every dependency."
    )


class OriginOut(serializers.Serializer[Any]):
    revision = serializers.IntegerField()
    by = serializers.CharField()
    at = serializers.DateTimeField()


class ConfigOut(serializers.Serializer[Any]):
    """One row of settings; `settings` and its shape are added per pattern."""

    id = serializers.IntegerField()
    pattern = serializers.CharField()
    environment = serializers.CharField(source="environment.slug")
    service = serializers.CharField(source="service.slug", allow_null=True)
    dependency = serializers.CharField(source="dependency.slug", allow_null=True)
    origins = serializers.DictField(
        child=OriginOut(), help_text="Which revision each value comes from, whose, and when."
    )
    version = serializers.IntegerField()


class WrittenOut(ConfigOut):
    """The same right after it was written, with what is dangerous about it."""

    warnings = serializers.SerializerMethodField(
        help_text=f"What is dangerous about it, wherever it has an effect; at most {MOST_FINDINGS}."
    )

    @extend_schema_field(FindingOut(many=True))
    def get_warnings(self, row: Config) -> Any:
        return told(selectors.warnings_of(row.environment_id, [row.place]))


class ClearedOut(serializers.Serializer[Config]):
    """What is dangerous about what holds where a row of settings was removed."""

    warnings = serializers.SerializerMethodField(
        help_text=f"What is dangerous about what is inherited now; at most {MOST_FINDINGS}."
    )

    @extend_schema_field(FindingOut(many=True))
    def get_warnings(self, row: Config) -> Any:
        return told(selectors.warnings_of(row.environment_id, [row.place]))


class ShiftOut(serializers.Serializer[rules.Shift]):
    key = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class PlannedChangeOut(serializers.Serializer[PlannedChange]):
    settings = ShiftOut(many=True, help_text="As services obey them: defaults are filled in.")
    calls = serializers.SerializerMethodField(
        help_text=f"Whose calls it would change, sorted; at most {MOST_CALLS}."
    )
    more = serializers.SerializerMethodField(help_text="How many others.")

    @extend_schema_field(CallsOut(many=True))
    def get_calls(self, change: PlannedChange) -> Any:
        return each_as(CallsOut, change.calls[:MOST_CALLS])

    def get_more(self, change: PlannedChange) -> int:
        return max(0, len(change.calls) - MOST_CALLS)


class PlanOut(serializers.Serializer[Plan]):
    """What a change would do; nothing of it has been done."""

    pattern = serializers.CharField()
    version = serializers.IntegerField(
        allow_null=True, help_text="Of the row as it is, for If-Match; null: none yet."
    )
    revision = serializers.IntegerField(help_text="Of the settings this was judged by.")
    is_allowed = serializers.BooleanField(help_text="Whether the change would be published.")
    services = serializers.IntegerField(help_text="How many would obey something else.")
    changes = PlannedChangeOut(many=True)
    findings = serializers.SerializerMethodField(
        help_text=f"What would be dangerous, refusals first; at most {MOST_FINDINGS}."
    )

    @extend_schema_field(PlannedFindingOut(many=True))
    def get_findings(self, plan: Plan) -> Any:
        return each_as(PlannedFindingOut, plan.findings[:MOST_FINDINGS])


@dataclass(frozen=True)
class Shapes:
    """The serializers of one pattern."""

    create: type[Strict]
    change: type[Strict]
    plan: type[Strict]
    out: type[ConfigOut]
    written: type[WrittenOut]


@cache
def shapes_of(pattern: str) -> Shapes:
    """The serializers of the settings of `pattern`; made once."""
    name = "".join(word.title() for word in pattern.split("_"))
    fields = {row.key: SettingField(row.path) for row in PATTERNS[pattern].settings.values()}
    settings = type(f"{name}Settings", (SettingsShape,), fields)
    given = {"settings": settings(), "reason": REASON}
    planned = settings(
        allow_null=True, help_text="Merged over what is set there; null: all of it is removed."
    )
    shown = {"settings": settings(source="values")}
    return Shapes(
        create=type(f"{name}ConfigIn", (ScopeIn,), {**given}),
        change=type(f"{name}ConfigChange", (Strict,), {**given}),
        plan=type(f"{name}PlanIn", (ScopeIn,), {"settings": planned}),
        out=type(f"{name}ConfigOut", (ConfigOut,), {**shown}),
        written=type(f"{name}ConfigWrittenOut", (WrittenOut,), {**shown}),
    )


def scope_of(body: dict[str, Any], actor: Actor) -> Scope:
    """The scope a body names, taken out of it; raises RuleBroken for unknown names."""
    return Scope(
        actor.environment_id,
        dependency=named_dependency(body.pop("dependency"), actor=actor),
        service=named_service(body.pop("service"), actor=actor),
    )
