"""What is in effect, what going back would change, and what is dangerous about it."""

from apps.policies.selectors.effective import (
    EffectivePolicy,
    EffectiveValue,
    Move,
    configs_reaching,
    defaults_of,
    effective,
    inherited_by,
    levels_of,
    moves_back_to,
    reach_of,
    values_of,
)
from apps.policies.selectors.safety import (
    findings_of_service,
    findings_where,
    published,
    warnings_of,
)

__all__ = [
    "EffectivePolicy",
    "EffectiveValue",
    "Move",
    "configs_reaching",
    "defaults_of",
    "effective",
    "findings_of_service",
    "findings_where",
    "inherited_by",
    "levels_of",
    "moves_back_to",
    "published",
    "reach_of",
    "values_of",
    "warnings_of",
]
