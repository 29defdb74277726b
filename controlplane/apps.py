from django.apps import AppConfig


class ControlPlaneConfig(AppConfig):
    name = "controlplane"

    def ready(self) -> None:
        from django.core.checks import register

        from controlplane.checks import deployment

        register(deployment)
