"""Settings known to suit a dependency, set in one step."""

from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction
from django.utils.translation import gettext as _

from apps.core import leases
from apps.core.actor import Actor
from apps.core.errors import NotFound
from apps.fleet.models import Dependency
from apps.policies import rules
from apps.policies.models import CONFIGS, Config, Scope
from apps.policies.rules import Finding
from apps.policies.services.plans import findings_of
from apps.policies.services.writing import Edit, write
from holdfast.spec import PRESETS, Preset

# Adds the check of a preset in the transaction that applies it; returns what audits that, if any.
BringCheck = Callable[..., Callable[[], None] | None]
_bring_check: BringCheck | None = None


def use_checks(bring: BringCheck) -> None:
    """Let `bring(preset, dependency, address=…, actor=…)` add the check that comes with a preset.

    Given by what wires the apps: settings and checks do not see each other.
    """
    global _bring_check
    _bring_check = bring


@dataclass(frozen=True)
class Applied:
    """What a preset did: the rows it set, the revision, and what of it cannot be set yet."""

    preset: Preset
    configs: list[Config]
    revision: int | None  # None: everything was set already
    has_new_check: bool
    left_out: list[str]  # full names of settings whose pattern this version cannot hold


@transaction.atomic
def apply_preset(
    name: str, *, scope: Scope, actor: Actor, reason: str = "", check_address: str = ""
) -> Applied:
    """Set a preset's settings for a dependency, or for one service's calls to it.

    The dependency gets the preset's check, if it has none of that kind: of `check_address`, else
    not enabled until somebody says where to ask. Not by an actor who is bound to one service.

    Other settings of the scope stay as they are. Settings of patterns this version has no table
    for are not set, and named in the result.

    Raises:
        NotFound: no such preset.
        RuleBroken, Forbidden: as `set_config`.
    """
    preset = _preset(name)
    leases.check_note(reason)
    edits = _edits(preset, scope)
    audit_check = _new_check(preset, scope.dependency, check_address, actor)
    text = reason or _("Preset %(title)s") % {"title": preset.title}
    written, revision = write(edits, actor=actor, reason=text)
    if audit_check is not None:
        audit_check()
    return Applied(
        preset=preset,
        has_new_check=audit_check is not None,
        configs=[each.row for each in written],
        revision=revision.number if revision else None,
        left_out=rules.left_out_of(preset.settings, CONFIGS),
    )


def plan_preset(name: str, *, scope: Scope, actor: Actor) -> list[Finding]:
    """What would be dangerous about a preset's settings in the scope; nothing is written.

    Raises:
        NotFound, RuleBroken, Forbidden: as `apply_preset`; but settings that contradict each other
            are findings.
    """
    return findings_of(_edits(_preset(name), scope), actor=actor)


def _preset(name: str) -> Preset:
    preset = PRESETS.get(name)
    if preset is None:
        raise NotFound(_("There is no such preset."))
    return preset


def _edits(preset: Preset, scope: Scope) -> list[Edit]:
    rules.check_names_dependency(scope.dependency)
    return [
        Edit(pattern, scope, values)
        for pattern, values in preset.settings.items()
        if pattern in CONFIGS
    ]


def _new_check(
    preset: Preset, dependency: Dependency | None, address: str, actor: Actor
) -> Callable[[], None] | None:
    if _bring_check is None or dependency is None or actor.service_id is not None:
        return None
    return _bring_check(preset, dependency, address=address, actor=actor)
