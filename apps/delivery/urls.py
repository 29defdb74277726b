from django.urls import URLPattern

from apps.core.routes import route
from apps.delivery import api

urlpatterns: list[URLPattern] = [
    route("policies/<str:service>", api.PolicyView.as_view(), name="policy"),
    route("health/live", api.LiveView.as_view(), name="health-live"),
    route("health/ready", api.ReadyView.as_view(), name="health-ready"),
]
