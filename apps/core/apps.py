from django.apps import AppConfig
from django.conf import settings


class CoreConfig(AppConfig):
    name = "apps.core"

    def ready(self) -> None:
        from apps.core import bus, loops

        if settings.REDIS_URL:
            loops.register("bus", lambda stopping: bus.get().listen(stopping), every=0.1)
