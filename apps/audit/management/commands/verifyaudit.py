"""`manage.py verifyaudit`: does the audit log still hold?"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.audit import selectors


class Command(BaseCommand):
    help = "Check every hash and link of every audit chain; name the first broken entry."

    def handle(self, *args: Any, **options: Any) -> None:
        verdicts = selectors.verify_all()
        for verdict in verdicts:
            state = "holds" if verdict.broken is None else f"BROKEN at {verdict.broken.sequence}"
            why = "" if verdict.broken is None else f": {verdict.broken.why}"
            self.stdout.write(f"{verdict.chain}: {verdict.entries} entries, {state}{why}")
        if any(verdict.broken for verdict in verdicts):
            raise CommandError("The audit log was changed outside Holdfast.")
