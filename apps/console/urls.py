from django.urls import URLPattern, path

from apps.console import views

urlpatterns: list[URLPattern] = [path("", views.home, name="home")]
