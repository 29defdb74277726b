"""The console's navigation: only what there is, and only what the person may see."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

# (title, icon, model) by section; a model without a page in the console is left out.
SECTIONS: list[tuple[Any, list[tuple[Any, str, str]]]] = [
    (_("Degradation"), [(_("Flags"), "toggle_on", "degradation.Flag")]),
    (
        _("Alerts"),
        [
            (_("Alerts"), "notification_important", "alerts.Alert"),
            (_("Silences"), "notifications_off", "alerts.Silence"),
            (_("Alert rules"), "rule", "alerts.Rule"),
            (_("Channels"), "campaign", "alerts.Channel"),
            (_("Delivery log"), "outbox", "alerts.Notification"),
            (_("Automatic actions"), "smart_toy", "alerts.Action"),
            (_("What they did"), "history_toggle_off", "alerts.Engagement"),
            (_("Freeze switch"), "ac_unit", "alerts.AlertEnvironmentSettings"),
        ],
    ),
    (
        _("Dead letters"),
        [
            (_("Inbox"), "inbox", "deadletters.Group"),
            (_("Letters"), "mail", "deadletters.DeadLetter"),
            (_("Redrives"), "replay", "deadletters.Redrive"),
        ],
    ),
    (
        _("Policies"),
        [
            (_("Overrides"), "front_hand", "policies.Override"),
            (_("Effective policies"), "layers", "policies.ServicePolicy"),
        ],
    ),
    (
        _("Settings"),
        [
            (_("Breakers"), "electric_bolt", "policies.BreakerConfig"),
            (_("Retries"), "replay", "policies.RetryConfig"),
            (_("Timeouts"), "timer", "policies.TimeoutConfig"),
            (_("Bulkheads"), "view_column", "policies.BulkheadConfig"),
            (_("Rate limits"), "speed", "policies.RateLimitConfig"),
            (_("Fallbacks"), "alt_route", "policies.FallbackConfig"),
            (_("Error recovery"), "healing", "policies.RecoveryConfig"),
            (_("Dead letter settings"), "drafts", "policies.DeadLetterConfig"),
            (_("Hedging"), "call_split", "policies.HedgeConfig"),
            (_("Throttles"), "filter_alt", "policies.ThrottleConfig"),
        ],
    ),
    (
        _("Fleet"),
        [
            (_("Environments"), "public", "fleet.Environment"),
            (_("Services"), "deployed_code", "fleet.Service"),
            (_("Dependencies"), "hub", "fleet.Dependency"),
            (_("Checks"), "monitor_heart", "health.Check"),
            (_("Instances"), "memory", "telemetry.InstanceState"),
            (_("Breaker events"), "timeline", "telemetry.BreakerEvent"),
        ],
    ),
    (
        _("Delivery"),
        [
            (_("Revisions"), "history", "publication.Revision"),
            (_("Epochs"), "restart_alt", "publication.Epoch"),
        ],
    ),
    (
        _("Audit"),
        [
            (_("Audit log"), "receipt_long", "audit.Entry"),
            (_("Chains"), "link", "audit.Chain"),
        ],
    ),
    (
        _("People and tokens"),
        [
            (_("People"), "group", "accounts.User"),
            (_("Roles"), "badge", "accounts.Membership"),
            (_("API tokens"), "key", "accounts.ApiToken"),
        ],
    ),
]
FOLDED = (_("Settings"),)  # unfolded on their own pages


def sections(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar, as the theme wants it."""
    first = {
        "title": None,
        "items": [
            _item(_("Dashboard"), "dashboard", reverse("admin:index")),
            _item(_("Wall"), "grid_view", reverse("wall")),
            _item(_("History"), "monitoring", reverse("history")),
            _item(_("Timeline"), "view_timeline", reverse("timeline")),
        ],
    }
    listed = [
        {
            "title": title,
            "separator": True,
            "collapsible": title in FOLDED,
            "items": _items(request, models),
        }
        for title, models in SECTIONS
    ]
    last = {
        "title": None,
        "separator": True,
        "items": [_item(_("API documentation"), "api", reverse("docs"))],
    }
    return [first, *(section for section in listed if section["items"]), last]


def _items(request: HttpRequest, models: list[tuple[Any, str, str]]) -> list[dict[str, Any]]:
    found = []
    for title, icon, label in models:
        app, name = label.lower().split(".")
        model = apps.all_models[app].get(name)
        if model is None or not admin.site.is_registered(model):
            continue
        if admin.site.get_model_admin(model).has_view_permission(request):
            found.append(_item(title, icon, reverse(f"admin:{app}_{name}_changelist")))
    return found


def _item(title: Any, icon: str, address: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": address}


def badge(request: HttpRequest) -> list[Any] | None:
    """What stands beside the title of every page: that this is the demo."""
    return [_("Demo: not a real fleet"), "warning"] if settings.DEMO else None
