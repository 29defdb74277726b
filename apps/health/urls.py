from django.urls import URLPattern

from apps.core.routes import route
from apps.health import api

urlpatterns: list[URLPattern] = [
    route("checks", api.ChecksView.as_view(), name="checks"),
    route("checks/<int:check_id>", api.CheckView.as_view(), name="check"),
    route("checks/<int:check_id>/test", api.CheckTestView.as_view(), name="check-test"),
    route("checks/<int:check_id>/ping", api.PingView.as_view(), name="check-ping"),
    route("checks/<int:check_id>/results", api.ResultsView.as_view(), name="check-results"),
    route(
        "checks/<int:check_id>/transitions", api.TransitionsView.as_view(), name="check-transitions"
    ),
    route("checks/<int:check_id>/history", api.HistoryView.as_view(), name="check-history"),
]
