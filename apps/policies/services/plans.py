"""What a change of settings would do, found out without doing any of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.translation import gettext as _

from apps.core.actor import Actor
from apps.core.db import check_version
from apps.core.errors import RuleBroken
from apps.fleet.models import Usage
from apps.policies import rules
from apps.policies.models import CONFIGS, Config, Scope
from apps.policies.rules import Calls, Finding, Shift
from apps.policies.selectors import Bodies, findings_where, published_around
from apps.policies.services.writing import Edit, check_scope
from apps.publication.selectors import newest_number

Values = Mapping[str, Any]


@dataclass(frozen=True)
class PlannedChange:
    """What would change alike for some calls, sorted."""

    settings: list[Shift]
    calls: list[Calls]


@dataclass(frozen=True)
class Plan:
    """What an edit of one row would do, judged by the settings as they were at `revision`."""

    pattern: str
    scope: Scope
    version: int | None  # of the row as it is; None: nothing is set there yet
    revision: int
    changes: list[PlannedChange] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_allowed(self) -> bool:
        """Whether the same edit would be published."""
        return not self.refusals

    @property
    def refusals(self) -> list[Finding]:
        return [each for each in self.findings if each.severity == "refusal"]

    @property
    def warnings(self) -> list[Finding]:
        return [each for each in self.findings if each.severity == "warning"]

    @property
    def services(self) -> int:
        """How many services would have to do something else."""
        return len({calls.service for change in self.changes for calls in change.calls} - {""})


def plan_config(
    pattern: str,
    *,
    scope: Scope,
    values: Values | None,
    actor: Actor,
    version: int | None = None,
) -> Plan:
    """What `set_config` would do with the same arguments, or `clear_config` without values; of
    nothing that is set nothing would be removed.

    Nothing is written, and nobody else is held up.

    Raises:
        NotFound, RuleBroken, Stale, Forbidden: as `set_config`; but settings that contradict each
            other are findings of the plan.
    """
    rules.check_pattern(pattern, CONFIGS)
    check_scope(scope, actor)
    cleaned = None if values is None else rules.clean_values(pattern, values)
    row = CONFIGS[pattern].objects.filter(**scope.lookup).first()
    if row is not None:
        check_version(row, version)
    edit = Edit(pattern, scope, cleaned)
    revision = newest_number(scope.environment_id)
    before = published_around(scope.environment_id, [edit.place])
    after = {**before, edit.place: _written(row, cleaned)}
    return Plan(
        pattern=pattern,
        scope=scope,
        version=row.version if row is not None else None,
        revision=revision,
        changes=_changes(pattern, _uses(scope), _of(pattern, before), _of(pattern, after)),
        findings=_findings(scope.environment_id, [edit], before, after),
    )


def findings_of(edits: Sequence[Edit], *, actor: Actor) -> list[Finding]:
    """What would be dangerous once these edits were made; nothing is written.

    Raises:
        RuleBroken, Forbidden: as the edits would.
    """
    for edit in edits:
        check_scope(edit.scope, actor)
    before = published_around(actor.environment_id, [edit.place for edit in edits])
    after = {**before, **{edit.place: _overlaid(before, edit) for edit in edits}}
    return _findings(actor.environment_id, edits, before, after)


def _overlaid(before: Bodies, edit: Edit) -> dict[str, Any]:
    """What would be set in the edit's place."""
    if edit.values is None:
        return {}
    cleaned = rules.clean_values(edit.pattern, edit.values)
    return _present({**before.get(edit.place, {}), **cleaned})


def _present(values: Values) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _written(row: Config | None, values: Values | None) -> dict[str, Any]:
    """What would be set in the row's scope."""
    if values is None:
        return {}
    together = {**(row.values if row is not None else {}), **values}
    present = _present(together)
    if row is None and not present:
        text = _("Set at least one value.")
        raise RuleBroken(text, errors={"settings": [text]})
    return present


def _findings(
    environment_id: int, edits: Iterable[Edit], before: Bodies, after: Bodies
) -> list[Finding]:
    """What would be dangerous about these places, and whether that is new; of each danger once."""
    places = {edit.place for edit in edits}
    extra = [place.calls for place in places if place.service]
    standing = {
        (finding.hazard.code, calls)
        for finding in findings_where(environment_id, places, before)
        for calls in finding.calls
    }
    return [
        replace(
            finding,
            is_new=any((finding.hazard.code, calls) not in standing for calls in finding.calls),
        )
        for finding in findings_where(environment_id, places, after, extra=extra)
    ]


def _uses(scope: Scope) -> list[Calls]:
    """The calls that settings in the scope reach, unless more specific ones hold; sorted."""
    uses = Usage.objects.filter(service__environment=scope.environment_id)
    if scope.dependency is not None:
        uses = uses.filter(dependency=scope.dependency)
    if scope.service is not None:
        return [Calls(**scope.slugs)]  # setting something for them declares them
    found = sorted(uses.values_list("service__slug", "dependency__slug"))
    return [Calls(*each) for each in found] or [Calls(**scope.slugs)]


def _of(pattern: str, bodies: Bodies) -> dict[tuple[str, str], Values]:
    return {place.calls: body for place, body in bodies.items() if place.pattern == pattern}


def _changes(
    pattern: str,
    uses: Iterable[Calls],
    before: Mapping[tuple[str, str], Values],
    after: Mapping[tuple[str, str], Values],
) -> list[PlannedChange]:
    """What would change, grouped by what it is; computed once for calls of the same levels."""
    known: dict[tuple[Calls, Calls], list[Shift]] = {}
    grouped: dict[str, PlannedChange] = {}
    own = before.keys() | after.keys()
    for calls in uses:
        everywhere = Calls("", calls.dependency)
        levels = (
            everywhere if everywhere in own else Calls("", ""),
            calls if calls in own else Calls("", ""),
        )
        if levels not in known:
            known[levels] = rules.shifts(pattern, _merged(before, levels), _merged(after, levels))
        if shifts := known[levels]:
            change = grouped.setdefault(repr(shifts), PlannedChange(shifts, []))
            change.calls.append(calls)
    return list(grouped.values())


def _merged(bodies: Mapping[tuple[str, str], Values], levels: Iterable[Calls]) -> dict[str, Any]:
    merged = dict(bodies.get(Calls("", ""), {}))
    for level in levels:
        merged |= bodies.get(level, {})
    return merged
