from apps.core.routes import route
from apps.telemetry.api import ConvergedView, ConvergenceView, EventsView, ReportsView
from apps.telemetry.api.history import HistoryView
from apps.telemetry.api.markers import MarkersView, MarkerView

urlpatterns = [
    route("reports", ReportsView.as_view(), name="reports"),
    route("convergence", ConvergenceView.as_view(), name="convergence"),
    route("convergence/environment", ConvergedView.as_view(), name="converged"),
    route("history", HistoryView.as_view(), name="history-api"),
    route("markers", MarkersView.as_view(), name="markers"),
    route("markers/<int:marker_id>", MarkerView.as_view(), name="marker"),
    route("events", EventsView.as_view(), name="events"),
]
