"""`manage.py end`: switch a flag off from a shell on the server, also while the web is down."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.core.errors import DomainError
from apps.degradation import selectors, services
from apps.degradation.management.scope import add_scope, explain, scope_of
from apps.degradation.models import Flag


class Command(BaseCommand):
    help = "End an engaged flag."

    def add_arguments(self, parser: CommandParser) -> None:
        add_scope(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            flag = self._end(options)
        except DomainError as error:
            raise CommandError(explain(error)) from error
        self.stdout.write(f"{flag} in {options['environment']} is ended.")

    def _end(self, options: dict[str, Any]) -> Flag:
        actor, service = scope_of("end", options)
        flag = selectors.find_flag(options["flag"], service=service, actor=actor)
        return services.end_flag(
            flag.pk, version=flag.version, reason=options["reason"], actor=actor
        )
