"""`manage.py engage`: switch a flag on from a shell on the server, also while the web is down."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.rules import lifetime
from apps.core.errors import DomainError
from apps.degradation import rules, selectors, services
from apps.degradation.management.scope import add_scope, explain, scope_of
from apps.degradation.models import Flag

UNTIL_ENDED = "until-ended"


class Command(BaseCommand):
    help = "Engage a flag. `read-only` is made if it is missing; any other flag must exist."

    def add_arguments(self, parser: CommandParser) -> None:
        add_scope(parser)
        parser.add_argument(
            "--for",
            dest="lease",
            help=f"such as 30m, 4h or 2d, or {UNTIL_ENDED}; without: 30m for read-only",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            flag = self._engage(options)
        except (DomainError, ValueError) as error:
            raise CommandError(explain(error)) from error
        end = "until somebody ends it"
        if flag.expires_at is not None:
            end = f"until {flag.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        self.stdout.write(f"{flag} in {options['environment']} is engaged {end}.")

    def _engage(self, options: dict[str, Any]) -> Flag:
        actor, service = scope_of("engage", options)
        reason, key = options["reason"], options["flag"]
        if key == rules.READ_ONLY_KEY:
            return services.switch_read_only(
                service=service,
                lease=self._lease(options["lease"], Flag.Kind.READ_ONLY),
                reason=reason,
                actor=actor,
            )
        flag = selectors.find_flag(key, service=service, actor=actor)
        lease = self._lease(options["lease"], flag.kind)
        return services.engage_flag(
            flag.pk, version=flag.version, lease=lease, reason=reason, actor=actor
        )

    @staticmethod
    def _lease(chosen: str | None, kind: str) -> timedelta | None:
        if chosen is None:
            return rules.default_lease(kind)
        return None if chosen == UNTIL_ENDED else lifetime(chosen)
