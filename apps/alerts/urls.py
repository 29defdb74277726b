from apps.alerts.api import actions, alert_rules, alerts, channels, silences
from apps.core.routes import route

urlpatterns = [
    route("alert-rules", alert_rules.AlertRulesView.as_view(), name="alert-rules"),
    route("alert-rules/<int:rule_id>", alert_rules.AlertRuleView.as_view(), name="alert-rule"),
    route(
        "alert-rules/<int:rule_id>/restore",
        alert_rules.AlertRuleRestoreView.as_view(),
        name="alert-rule-restore",
    ),
    route("alerts", alerts.AlertsView.as_view(), name="alerts"),
    route("alerts/<int:alert_id>", alerts.AlertView.as_view(), name="alert"),
    route(
        "alerts/<int:alert_id>/acknowledge",
        alerts.AlertAcknowledgeView.as_view(),
        name="alert-acknowledge",
    ),
    route("silences", silences.SilencesView.as_view(), name="silences"),
    route("silences/<int:silence_id>", silences.SilenceView.as_view(), name="silence"),
    route("silences/<int:silence_id>/end", silences.SilenceEndView.as_view(), name="silence-end"),
    route("channels", channels.ChannelsView.as_view(), name="channels"),
    route("channels/<int:channel_id>", channels.ChannelView.as_view(), name="channel"),
    route(
        "channels/<int:channel_id>/test", channels.ChannelTestView.as_view(), name="channel-test"
    ),
    route(
        "channels/<int:channel_id>/notifications",
        channels.ChannelNotificationsView.as_view(),
        name="channel-notifications",
    ),
    route("alert-actions", actions.AlertActionsView.as_view(), name="alert-actions"),
    route("alert-actions/<int:action_id>", actions.AlertActionView.as_view(), name="alert-action"),
    route("alert-settings", actions.AlertSettingsView.as_view(), name="alert-settings"),
]
