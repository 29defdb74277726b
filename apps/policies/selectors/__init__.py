"""What is in effect, what going back would change, and what is dangerous about it."""

from apps.policies.selectors.effective import (
    EffectivePolicy,
    EffectiveValue,
    Move,
    configs_reaching,
    defaults_of,
    effective,
    inherited_by,
    inherited_in,
    levels_of,
    moves_back_to,
    reach_of,
    values_of,
)
from apps.policies.selectors.safety import (
    Bodies,
    findings_of_service,
    findings_where,
    published_around,
    warnings_of,
    warnings_of_revision,
)

__all__ = [
    "Bodies",
    "EffectivePolicy",
    "EffectiveValue",
    "Move",
    "configs_reaching",
    "defaults_of",
    "effective",
    "findings_of_service",
    "findings_where",
    "inherited_by",
    "inherited_in",
    "levels_of",
    "moves_back_to",
    "published_around",
    "reach_of",
    "values_of",
    "warnings_of",
    "warnings_of_revision",
]
