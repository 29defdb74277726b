"""Settings known to suit a dependency, set in one step."""

from dataclasses import dataclass

from django.db import transaction
from django.utils.translation import gettext as _

from apps.core import leases
from apps.core.actor import Actor
from apps.core.errors import NotFound
from apps.policies import rules
from apps.policies.models import CONFIGS, Config, Scope
from apps.policies.services.writing import Edit, write
from holdfast.spec import PRESETS, Preset


@dataclass(frozen=True)
class Applied:
    """What a preset did: the rows it set, the revision, and what of it cannot be set yet."""

    preset: Preset
    configs: list[Config]
    revision: int | None  # None: everything was set already
    left_out: list[str]  # full names of settings whose pattern this version cannot hold


@transaction.atomic
def apply_preset(name: str, *, scope: Scope, actor: Actor, reason: str = "") -> Applied:
    """Set a preset's settings for a dependency, or for one service's calls to it.

    Other settings of the scope stay as they are. Settings of patterns this version has no table
    for are not set, and named in the result.

    Raises:
        NotFound: no such preset.
        RuleBroken, Forbidden: as `set_config`.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise NotFound(_("There is no such preset."))
    leases.check_note(reason)
    rules.check_names_dependency(scope.dependency)
    edits = [
        Edit(pattern, scope, values)
        for pattern, values in preset.settings.items()
        if pattern in CONFIGS
    ]
    text = reason or _("Preset %(title)s") % {"title": preset.title}
    written, revision = write(edits, actor=actor, reason=text)
    return Applied(
        preset=preset,
        configs=[each.row for each in written],
        revision=revision.number if revision else None,
        left_out=rules.left_out_of(preset.settings, CONFIGS),
    )
