from django.apps import AppConfig


class DeliveryConfig(AppConfig):
    name = "apps.delivery"

    def ready(self) -> None:
        from apps.delivery.state import keep_fresh

        keep_fresh()
