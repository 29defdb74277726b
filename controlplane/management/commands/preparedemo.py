"""`manage.py preparedemo`: a database with what the demo needs; twice changes nothing."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from apps.accounts import selectors as tokens
from apps.accounts import services as accounts
from apps.core import clock
from apps.core.actor import Actor, command
from apps.degradation import services as degradation
from apps.degradation.models import Flag
from apps.fleet import services as fleet
from apps.fleet.models import Dependency, Environment, Service
from apps.health import services as health
from apps.health.models import Check
from apps.policies import services as policies
from apps.policies.models import Scope
from demo import plan, supervisor

SCOPES = ["policies:read", "reports:write", "deadletters:write", "redrives:work"]
REASON = "the demo begins"


class Command(BaseCommand):
    help = "Make the environment demo with services, dependencies, presets and tokens."

    def handle(self, *args: Any, **options: Any) -> None:
        # In one process: each that starts costs seconds on a busy machine.
        call_command("migrate", verbosity=0)
        call_command("firstrun", environment=plan.ENVIRONMENT, stdout=self.stdout)
        environment = Environment.objects.get(slug=plan.ENVIRONMENT)
        actor = command("demo", frozenset({environment.pk}))
        while fleet.forget_instances(clock.now(), limit=500):  # they ended with the last server
            pass
        for service in plan.SERVICES:
            if not Service.objects.filter(environment=environment, slug=service.slug).exists():
                fleet.create_service(service.slug, description=service.description, actor=actor)
        if not Dependency.objects.filter(environment=environment).exists():
            set_everywhere(environment, actor)
        for dependency in plan.DEPENDENCIES:
            if not Dependency.objects.filter(environment=environment, slug=dependency.slug):
                declare_uses(add_dependency(dependency, actor), actor)
        if not Flag.objects.filter(environment=environment, key=plan.FLAG).exists():
            degradation.create_flag(
                plan.FLAG,
                kind=Flag.Kind.FALLBACK,
                settings={"dependencies": ["gemini", "deepseek"]},
                actor=actor,
            )
        aim_checks(environment, supervisor.kept_port(Path(settings.VAR_DIR)), actor)
        keep_tokens(environment, actor)
        self.stdout.write("The demo: four services call stand-ins of well-known dependencies.")
        self.stdout.write("Break one: .venv/bin/python -m demo break alpaca 60s")
        self.stdout.write("Without the demo: DEMO=0 make run")


def set_everywhere(environment: Environment, actor: Actor) -> None:
    """Defaults with which something is seen soon."""
    scope = Scope(environment.pk)
    for pattern, values in (("breaker", plan.BREAKER), ("retry", plan.RETRY)):
        policies.set_config(pattern, scope=scope, values=values, actor=actor, reason=REASON)


def add_dependency(planned: plan.Dependency, actor: Actor) -> Dependency:
    """Add it with its preset; what somebody changes afterwards stays changed."""
    row = fleet.create_dependency(planned.slug, description=planned.description, actor=actor)
    scope = Scope(row.environment_id, row)
    policies.apply_preset(planned.slug, scope=scope, actor=actor, reason=REASON)
    if chain := plan.FALLBACKS.get(planned.slug):
        values = {"chain": chain}
        policies.set_config("fallback", scope=scope, values=values, actor=actor, reason=REASON)
    return row


def aim_checks(environment: Environment, port: int, actor: Actor) -> None:
    """Let the checks that presets brought ask the stand-ins, wherever those listen now.

    A check that somebody has given another address, or switched off since, stays as it is.
    """
    near = f"http://{supervisor.LOOPBACK}:"
    for check in Check.objects.filter(environment=environment, kind=Check.Kind.HTTP):
        address = f"{near}{port}/{check.dependency}/health"
        is_new = not check.address
        if is_new or (check.address.startswith(near) and check.address != address):
            changes = {"address": address, **({**plan.CHECK, "enabled": True} if is_new else {})}
            health.update_check(check.pk, version=None, changes=changes, actor=actor)


def declare_uses(dependency: Dependency, actor: Actor) -> None:
    """Give the services that call it a deadline of their own, which says that they do."""
    callers = [service.slug for service in plan.SERVICES if dependency.slug in dict(service.calls)]
    for service in Service.objects.filter(environment=dependency.environment_id, slug__in=callers):
        scope = Scope(dependency.environment_id, dependency, service)
        values = {"total_seconds": plan.DEADLINE}
        policies.set_config("timeout", scope=scope, values=values, actor=actor, reason=REASON)


def keep_tokens(environment: Environment, actor: Actor) -> None:
    """A token for each service in a file of its own, unless those in it still open the door."""
    folder = Path(settings.VAR_DIR) / plan.FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "tokens.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    for service in Service.objects.filter(
        environment=environment, slug__in=[each.slug for each in plan.SERVICES]
    ):
        if not is_valid(kept.get(service.slug, ""), service):
            _row, kept[service.slug] = accounts.create_token(
                f"demo {service.slug}", scopes=SCOPES, service=service, actor=actor
            )
    supervisor.write_private(path, kept)


def is_valid(text: str, service: Service) -> bool:
    token = tokens.find_token(text)
    return token is not None and token.service_id == service.pk
