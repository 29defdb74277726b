from apps.alerts.services.actions import (
    create_action,
    delete_action,
    freeze_actions,
    update_action,
)
from apps.alerts.services.alert_rules import (
    create_rule,
    delete_rule,
    ensure_defaults,
    restore_rule,
    update_rule,
)
from apps.alerts.services.alerts import acknowledge_alert
from apps.alerts.services.channels import (
    create_channel,
    delete_channel,
    try_channel,
    update_channel,
)
from apps.alerts.services.retention import prune
from apps.alerts.services.silences import create_silence, end_silence

__all__ = [
    "acknowledge_alert",
    "create_action",
    "create_channel",
    "create_rule",
    "create_silence",
    "delete_action",
    "delete_channel",
    "delete_rule",
    "end_silence",
    "ensure_defaults",
    "freeze_actions",
    "prune",
    "restore_rule",
    "try_channel",
    "update_action",
    "update_channel",
    "update_rule",
]
