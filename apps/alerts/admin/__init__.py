"""Alerts in the console: what is the matter, by which rules, who is told, what is switched."""

from apps.alerts.admin import actions, alert_rules, alerts, channels, silences

__all__ = ["actions", "alert_rules", "alerts", "channels", "silences"]
