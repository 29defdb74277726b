from django.urls import URLPattern

from apps.core.routes import route
from apps.metrics.api import MetricsView

urlpatterns: list[URLPattern] = [route("metrics", MetricsView.as_view(), name="metrics")]
