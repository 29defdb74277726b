"""Every address of the server. Each app lists its own API routes in its `urls.py`."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.i18n import JavaScriptCatalog
from drf_spectacular.views import SpectacularSwaggerView

from apps.accounts.logins import OwnPassword
from apps.console.api import InForceView, TimelineMarkdownView, TimelineView
from apps.console.views import history_page, in_force_page, scores_part, timeline_page
from apps.core import outages, problems
from apps.core.routes import route
from apps.metrics.api import MetricsView
from controlplane.openapi import DocumentView

DOCS = SpectacularSwaggerView.as_view(url_name="schema", http_method_names=["get", "head"])
API: list[URLPattern | URLResolver] = [
    route("schema", DocumentView.as_view(), name="schema"),
    route("docs", DOCS, name="docs"),
    route("timeline", TimelineView.as_view(), name="timeline-api"),
    route("instances/<uuid:instance_id>/in-force", InForceView.as_view(), name="in-force-api"),
    route("timeline/markdown", TimelineMarkdownView.as_view(), name="timeline-markdown"),
    *(
        path("", include(f"apps.{app}.urls"))
        for app in (
            "audit",
            "fleet",
            "accounts",
            "publication",
            "telemetry",
            "policies",
            "degradation",
            "deadletters",
            "health",
            "alerts",
            "delivery",
            "metrics",
        )
    ),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/", include(API)),
    # In place of Django's, which audits nothing.
    path("admin/password_change/", admin.site.admin_view(OwnPassword.as_view())),
    path("admin/history/", admin.site.admin_view(history_page), name="history"),
    path("admin/in-force/", admin.site.admin_view(in_force_page), name="in-force"),
    path("admin/timeline/", admin.site.admin_view(timeline_page), name="timeline"),
    path("admin/scores/", admin.site.admin_view(scores_part), name="scores"),
    path("admin/", admin.site.urls),
    route("metrics", MetricsView.as_view(schema=None)),  # where Prometheus looks by itself
    # The words of our scripts, in the reader's language; apart from Django's own, which are many.
    path("words.js", JavaScriptCatalog.as_view(packages=["apps.core"]), name="words"),
    path("", include("apps.live.urls")),
    path("", include("apps.console.urls")),
]

handler400 = problems.bad_request
handler404 = problems.not_found
handler500 = outages.server_error
