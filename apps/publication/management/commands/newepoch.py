"""`manage.py newepoch`: after restoring a database or promoting a replica by hand."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.core.actor import command
from apps.publication import services


class Command(BaseCommand):
    help = "Start a new epoch, so that every client follows this database whatever it holds."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        epoch = services.new_epoch(reason=options["reason"], actor=command("newepoch", frozenset()))
        self.stdout.write(str(epoch.pk))
