"""Serializers for the settings of each pattern, made from `holdfast.spec`."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers

from apps.core.actor import Actor
from apps.core.api import Strict
from apps.core.leases import LONGEST_REASON
from apps.fleet.selectors import named_dependency, named_service
from apps.policies import rules
from apps.policies.models import Scope
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


@dataclass(frozen=True)
class Shapes:
    """The serializers of one pattern."""

    create: type[Strict]
    change: type[Strict]
    out: type[ConfigOut]


@cache
def shapes_of(pattern: str) -> Shapes:
    """The serializers of the settings of `pattern`; made once."""
    name = "".join(word.title() for word in pattern.split("_"))
    fields = {row.key: SettingField(row.path) for row in PATTERNS[pattern].settings.values()}
    settings = type(f"{name}Settings", (SettingsShape,), fields)
    given = {"settings": settings(), "reason": REASON}
    return Shapes(
        create=type(f"{name}ConfigIn", (ScopeIn,), {**given}),
        change=type(f"{name}ConfigChange", (Strict,), {**given}),
        out=type(f"{name}ConfigOut", (ConfigOut,), {"settings": settings(source="values")}),
    )


def scope_of(body: dict[str, Any], actor: Actor) -> Scope:
    """The scope a body names, taken out of it; raises RuleBroken for unknown names."""
    return Scope(
        actor.environment_id,
        dependency=named_dependency(body.pop("dependency"), actor=actor),
        service=named_service(body.pop("service"), actor=actor),
    )
