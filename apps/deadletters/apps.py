from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DeadLettersConfig(AppConfig):
    name = "apps.deadletters"
    verbose_name = _("Dead letters")

    def ready(self) -> None:
        from apps.core import bus, loops
        from apps.deadletters import gate

        bus.subscribe(gate.TOPIC, gate.waiters.hear)
        loops.register("deadletters.work", gate.waiters.look, every=gate.LOOK_SECONDS)
