from django.apps import AppConfig
from django.core import checks as system_checks
from django.db.models.signals import post_migrate


class AuditConfig(AppConfig):
    name = "apps.audit"

    def ready(self) -> None:
        from apps.audit.checks import triggers_present
        from apps.audit.triggers import create_after_migrate

        post_migrate.connect(create_after_migrate, sender=self)
        system_checks.register(triggers_present, system_checks.Tags.database)
