"""What `engage` and `end` have in common: whose flag is meant, and how a refusal is told."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from apps.core.actor import Actor, command
from apps.fleet.models import Environment, Service
from apps.fleet.selectors import named_service


def add_scope(parser: CommandParser) -> None:
    """The arguments that name a flag, its scope and the reason."""
    parser.add_argument("flag", help="key of the flag, such as read-only")
    parser.add_argument("--environment", required=True)
    parser.add_argument("--service", help="without: every service of the environment")
    parser.add_argument("--reason", required=True, help="shown to everybody, and audited")


def scope_of(name: str, options: dict[str, Any]) -> tuple[Actor, Service | None]:
    """The command as an actor in the environment, and the service it names."""
    environment = Environment.objects.filter(slug=options["environment"]).first()
    if environment is None:
        known = ", ".join(Environment.objects.values_list("slug", flat=True)) or "none yet"
        raise CommandError(
            f"There is no environment {options['environment']}. Environments: {known}."
        )
    actor = command(name, frozenset({environment.pk}))
    return actor, named_service(options["service"], actor=actor)


def explain(error: Exception) -> str:
    """A refusal in one line: what, and field by field why."""
    fields = getattr(error, "errors", {})
    texts = [f"{field}: {' '.join(found)}" for field, found in fields.items()]
    return " ".join([str(error), *(text for text in texts if str(error) not in text)])
