"""What is in effect for a service, and what going back would change."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from apps.core import clock
from apps.fleet.models import Service, Usage
from apps.policies import rules
from apps.policies.models import CONFIGS, Config, Override, Scope
from apps.publication.models import Fragment, Part, Revision
from holdfast.spec import PATTERNS, Setting, merge_overrides

DEFAULT = "default"  # the source of a value nobody set: the SDK's own


@dataclass(frozen=True)
class EffectiveValue:
    """One setting as a service obeys it, and where it comes from."""

    setting: Setting
    value: Any
    source: str  # default, environment, dependency, service
    revision: int | None = None  # None: nobody set it
    by: str = ""
    at: str = ""  # RFC 3339

    @property
    def is_set(self) -> bool:
        return self.source != DEFAULT


@dataclass(frozen=True)
class EffectivePolicy:
    """What a service must do about one dependency."""

    dependency: str  # slug
    dependency_id: int
    values: list[EffectiveValue]
    override: dict[str, Any] | None  # the one in force, as services read it
    own: dict[str, Config]  # the rows that hold for this service's calls alone, by pattern


@dataclass(frozen=True)
class Move:
    """What a rollback does to the settings of one pattern in one scope; None: nothing set."""

    service: str
    dependency: str
    pattern: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @property
    def label(self) -> str:
        where = " → ".join(filter(None, [self.service, self.dependency])) or "environment"
        return f"{where}: {self.pattern}"


Levels = Mapping[str, list[Config]]  # by pattern, least specific first


def effective(service: Service) -> list[EffectivePolicy]:
    """What `service` must do about each dependency it calls, sorted by name."""
    dependencies = _dependencies_of(service)
    configs = configs_reaching(service)
    overrides = list(
        Override.objects.in_force(clock.now())
        .filter(Q(service=None) | Q(service=service), dependency__in=dependencies)
        .select_related("dependency", "service")
    )
    return [
        _effective(dependency_id, slug, levels_of(configs, dependency_id, service.pk), overrides)
        for dependency_id, slug in sorted(dependencies.items(), key=lambda pair: pair[1])
    ]


def _effective(
    dependency_id: int, slug: str, levels: Levels, overrides: list[Override]
) -> EffectivePolicy:
    return EffectivePolicy(
        dependency=slug,
        dependency_id=dependency_id,
        values=_values(levels),
        override=_override(overrides, dependency_id),
        own={
            pattern: row
            for pattern, rows in levels.items()
            for row in rows
            if row.service_id is not None
        },
    )


def configs_reaching(service: Service) -> dict[str, list[Config]]:
    """Every row of settings that may reach `service`, by pattern."""
    mine = Q(service=None) | Q(service=service)
    return {
        pattern: list(model.objects.filter(mine, environment=service.environment_id))
        for pattern, model in CONFIGS.items()
    }


def levels_of(
    configs: Mapping[str, list[Config]], dependency_id: int | None, service_id: int | None
) -> dict[str, list[Config]]:
    """The rows that concern one service's calls to one dependency, least specific first."""
    scopes = [(None, None), (dependency_id, None), (dependency_id, service_id)]
    return {
        pattern: sorted(
            (row for row in rows if (row.dependency_id, row.service_id) in scopes),
            key=lambda row: (row.dependency_id is not None, row.service_id is not None),
        )
        for pattern, rows in configs.items()
    }


def inherited_by(row: Config) -> dict[str, EffectiveValue]:
    """What the settings of `row` would be if it set none of them, by setting."""
    return inherited_in(row.pattern, row.holds_in)


def inherited_in(pattern: str, scope: Scope) -> dict[str, EffectiveValue]:
    """What the settings of a pattern are in `scope` while none of them is set there."""
    if scope.dependency is None:
        return defaults_of(pattern)
    above = Q(dependency=None)
    if scope.service is not None:
        above |= Q(dependency=scope.dependency)
    rows = CONFIGS[pattern].objects.filter(above, environment=scope.environment_id, service=None)
    levels = sorted(rows, key=lambda each: each.dependency_id is not None)
    return {value.setting.key: value for value in _values({pattern: levels})}


def values_of(row: Config) -> list[EffectiveValue]:
    """Every setting of the row's pattern as it holds in the row's scope."""
    own, above = row.values, inherited_by(row)
    return [_value(value.setting, [row]) if key in own else value for key, value in above.items()]


def defaults_of(pattern: str) -> dict[str, EffectiveValue]:
    """The library's own values of a pattern, by setting."""
    return {value.setting.key: value for value in _values({pattern: []})}


def reach_of(scope: Scope) -> int:
    """How many services a setting in this scope has an effect on, unless they set their own."""
    if scope.service is not None:
        return 1
    uses = Usage.objects.filter(service__environment=scope.environment_id)
    if scope.dependency is not None:
        uses = uses.filter(dependency=scope.dependency)
    return uses.values("service").distinct().count()


def moves_back_to(revision: Revision) -> list[Move]:
    """What going back to the settings of `revision` would change, sorted by scope and pattern."""
    settings = Fragment.objects.filter(part=Part.SETTING, environment=revision.environment_id)
    now = _bodies(settings.current())
    then = _bodies(settings.as_of(revision.environment_id, revision.number))
    return [
        Move(*where, before=now.get(where), after=then.get(where))
        for where in sorted(now.keys() | then.keys())
        if not rules.is_same(now.get(where), then.get(where))
    ]


def _bodies(fragments: Iterable[Fragment]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {
        (fragment.service, fragment.dependency, fragment.name): fragment.body
        for fragment in fragments
        if fragment.body is not None
    }


def _dependencies_of(service: Service) -> dict[int, str]:
    """Slugs of the dependencies a service calls, by id."""
    uses = Usage.objects.filter(service=service)
    return dict(uses.values_list("dependency_id", "dependency__slug"))


def _values(levels: Levels) -> list[EffectiveValue]:
    return [
        _value(setting, rows)
        for pattern, rows in levels.items()
        for setting in PATTERNS[pattern].settings.values()
    ]


def _value(setting: Setting, rows: list[Config]) -> EffectiveValue:
    """The value of the most specific row that sets it, else the default."""
    for row in reversed(rows):
        value = getattr(row, setting.key)
        if value is not None:
            origin = row.origins[setting.key]
            return EffectiveValue(
                setting,
                value,
                _level(row),
                revision=origin["revision"],
                by=origin["by"],
                at=origin["at"],
            )
    return EffectiveValue(setting, setting.default, DEFAULT)


def _level(row: Config) -> str:
    if row.service_id is not None:
        return "service"
    return "environment" if row.dependency_id is None else "dependency"


def _override(overrides: list[Override], dependency_id: int) -> dict[str, Any] | None:
    mine = [row for row in overrides if row.dependency_id == dependency_id]
    levels = sorted(mine, key=lambda row: row.service_id is not None)
    return merge_overrides([row.body() for row in levels]) if levels else None
