from django.apps import AppConfig


class ControlPlaneConfig(AppConfig):
    name = "controlplane"

    def ready(self) -> None:
        from django.core.checks import register

        from apps.health.services import bring_check
        from apps.policies.services import use_checks
        from controlplane.checks import deployment

        register(deployment)
        use_checks(bring_check)
