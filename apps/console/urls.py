from django.templatetags.static import static
from django.urls import URLPattern, path
from django.views.generic import RedirectView

from apps.console import views

urlpatterns: list[URLPattern] = [
    path("", views.home, name="home"),
    # Browsers ask for it on pages that name no icon of their own.
    path("favicon.ico", RedirectView.as_view(url=static("img/holdfast.svg"))),
]
