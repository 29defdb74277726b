"""`manage.py createtoken`: a service's key, from a shell on the server."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from apps.accounts import rules, services
from apps.core import clock
from apps.core.actor import command
from apps.core.errors import DomainError
from apps.fleet import services as fleet
from apps.fleet.models import Environment, Service


class Command(BaseCommand):
    help = "Make an API token, with its environment and service if they are missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--environment", required=True)
        parser.add_argument("--service", help="bind the token to this service")
        parser.add_argument("--scope", action="append", dest="scopes", required=True)
        parser.add_argument("--expires-in", help="such as 90d, 12h or 30m; without: until revoked")
        parser.add_argument("--name", help="what people see; without: the service's name")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(self._create(options))
        except (DomainError, ValueError) as error:
            problems = getattr(error, "errors", {})
            texts = [f"{field}: {' '.join(found)}" for field, found in problems.items()]
            raise CommandError(" ".join([str(error), *texts])) from error

    @transaction.atomic  # a token that is refused leaves no environment and no service behind
    def _create(self, options: dict[str, Any]) -> str:
        environment = Environment.objects.filter(slug=options["environment"]).first()
        if environment is None:
            nowhere = command("createtoken", frozenset())
            environment = fleet.create_environment(options["environment"], actor=nowhere)
        actor = command("createtoken", frozenset({environment.pk}))
        service = None
        if slug := options["service"]:
            service = Service.objects.filter(environment=environment, slug=slug).first()
            service = service or fleet.create_service(slug, actor=actor)
        lifetime = options["expires_in"]
        _token, text = services.create_token(
            options["name"] or options["service"] or "command line",
            scopes=options["scopes"],
            service=service,
            expires_at=clock.now() + rules.lifetime(lifetime) if lifetime else None,
            actor=actor,
        )
        return text
