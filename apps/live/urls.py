from django.urls import URLPattern, path

from apps.live import views

urlpatterns: list[URLPattern] = [
    path("wall/", views.wall, name="wall"),
    path("wall", views.wall),
    path("wall/service/", views.service, name="wall-service"),
    path("wall/service", views.service),
]
