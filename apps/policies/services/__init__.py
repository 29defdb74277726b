"""Every change of settings and overrides."""

from apps.policies.services.configs import clear_config, set_config
from apps.policies.services.overrides import (
    end_due_overrides,
    end_override,
    engage_override,
    extend_override,
)
from apps.policies.services.plans import Plan, PlannedChange, plan_config
from apps.policies.services.presets import Applied, apply_preset, plan_preset, use_checks
from apps.policies.services.rollback import plan_rollback, rollback

__all__ = [
    "Applied",
    "Plan",
    "PlannedChange",
    "apply_preset",
    "clear_config",
    "end_due_overrides",
    "end_override",
    "engage_override",
    "extend_override",
    "plan_config",
    "plan_preset",
    "plan_rollback",
    "rollback",
    "set_config",
    "use_checks",
]
