from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TelemetryConfig(AppConfig):
    name = "apps.telemetry"
    verbose_name = _("Telemetry")

    def ready(self) -> None:
        from apps.core import loops
        from apps.telemetry import ingest

        flush = loops.register("telemetry.flush", ingest.current.run, every=1.0, finishes=True)
        ingest.current.wake = flush.wake
