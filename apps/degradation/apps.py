from django.apps import AppConfig


class DegradationConfig(AppConfig):
    name = "apps.degradation"
