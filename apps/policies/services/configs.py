"""Setting the settings of one pattern in one scope."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from apps.core import leases
from apps.core.actor import Actor
from apps.policies import rules
from apps.policies.models import CONFIGS, Config, Scope
from apps.policies.services.writing import Edit, write


@transaction.atomic
def set_config(
    pattern: str,
    *,
    scope: Scope,
    values: Mapping[str, Any],
    actor: Actor,
    version: int | None = None,
    reason: str = "",
) -> Config:
    """Set some settings of a pattern in a scope; None lets one be inherited again.

    Settings not named stay as they are. `version` is the one the caller looked at, 0 to insist
    that nothing was set yet, None to take the row as it is. Values that are set already change
    nothing: no revision, no audit entry.

    Raises:
        NotFound: no such pattern; or a version although nothing is set.
        RuleBroken: values out of bounds, unknown, or in contradiction to what is in effect for
            some service; nothing to set.
        Conflict: something is set, and `version` is 0.
        Stale: somebody changed it after `version`; nothing is written.
        Forbidden: the actor is bound to another service.
    """
    rules.check_pattern(pattern, CONFIGS)
    leases.check_note(reason)
    written, _revision = write([Edit(pattern, scope, values, version)], actor=actor, reason=reason)
    return written[0].row


@transaction.atomic
def clear_config(
    pattern: str,
    *,
    scope: Scope,
    actor: Actor,
    version: int | None = None,
    reason: str = "",
) -> None:
    """Let every setting of a pattern be inherited again in a scope.

    Raises:
        NotFound, RuleBroken, Stale, Forbidden: as `set_config`.
    """
    rules.check_pattern(pattern, CONFIGS)
    leases.check_note(reason)
    write([Edit(pattern, scope, None, version)], actor=actor, reason=reason)
