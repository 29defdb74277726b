from django.urls import URLPattern

from apps.core.routes import route
from apps.delivery import api, health

urlpatterns: list[URLPattern] = [
    route("policies/<str:service>", api.PolicyView.as_view(), name="policy"),
    route("health", health.OverallView.as_view(), name="health"),
    route("health/dependencies", health.DependenciesView.as_view(), name="health-dependencies"),
    route("health/services", health.ServicesView.as_view(), name="health-services"),
    route("health/detailed", health.DetailedView.as_view(), name="health-detailed"),
    *(
        route(f"health/{part}", health.PartView.as_view(part=part), name=f"health-{part}")
        for part in ("db", "redis", "rabbitmq", "celery")
    ),
    route("health/live", api.LiveView.as_view(), name="health-live"),
    route("health/ready", api.ReadyView.as_view(), name="health-ready"),
]
