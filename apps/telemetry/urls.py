from apps.core.routes import route
from apps.telemetry.api import ConvergedView, ConvergenceView, EventsView, ReportsView
from apps.telemetry.api.history import HistoryView

urlpatterns = [
    route("reports", ReportsView.as_view(), name="reports"),
    route("convergence", ConvergenceView.as_view(), name="convergence"),
    route("convergence/environment", ConvergedView.as_view(), name="converged"),
    route("history", HistoryView.as_view(), name="history-api"),
    route("events", EventsView.as_view(), name="events"),
]
