from apps.alerts.models.action import Action, AlertEnvironmentSettings, Engagement
from apps.alerts.models.alert import Alert, Silence, Transition
from apps.alerts.models.notification import Channel, Notification
from apps.alerts.models.rule import Judge, Rule

__all__ = [
    "Action",
    "Alert",
    "AlertEnvironmentSettings",
    "Channel",
    "Engagement",
    "Judge",
    "Notification",
    "Rule",
    "Silence",
    "Transition",
]
