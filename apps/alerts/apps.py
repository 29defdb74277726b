from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AlertsConfig(AppConfig):
    name = "apps.alerts"
    verbose_name = _("Alerts")

    def ready(self) -> None:
        from apps.alerts import dispatch, judge, services
        from apps.core import loops
        from apps.fleet import services as fleet

        fleet.prepare_environments(lambda environment: services.ensure_defaults(environment.pk))
        judge.current.loop = loops.register(
            "alerts.judge", judge.current.run, every=judge.LOOK_SECONDS
        )
        dispatch.current.loop = loops.register("alerts.send", dispatch.current.run, every=1.0)
