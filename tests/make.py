"""The world of the tests: small functions with defaults, one per thing."""

import json
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.test import Client
from rest_framework.test import APIClient

from apps.accounts import services as accounts
from apps.accounts.models import ApiToken, Membership, User
from apps.alerts import services as alerts
from apps.alerts.models import Action, Alert, Channel, Rule, Silence
from apps.core import clock
from apps.core.actor import SCOPES, SYSTEM_SCOPE, Actor
from apps.deadletters import services as deadletters
from apps.deadletters.letters import Item
from apps.deadletters.letters import read as read_batch
from apps.deadletters.models import DeadLetter, Redrive
from apps.degradation import services as degradation
from apps.degradation.models import Flag
from apps.fleet.models import Dependency, Environment, Instance, Service, Usage
from apps.health import services as health
from apps.health.models import Check
from apps.policies import services as policies
from apps.policies.models import Config, Override, Scope
from apps.publication import services as publication
from apps.publication.models import Part, Revision
from apps.publication.services import Piece
from apps.telemetry.markers import Mark, add_marker
from apps.telemetry.models import Marker

_numbers = count(1)


def environment(slug: str = "") -> Environment:
    slug = slug or f"environment-{next(_numbers)}"
    return Environment.objects.create(slug=slug, name=slug.title())


def service(where: Environment | None = None, slug: str = "") -> Service:
    slug = slug or f"service-{next(_numbers)}"
    return Service.objects.create(environment=where or environment(), slug=slug)


def dependency(where: Environment | None = None, slug: str = "") -> Dependency:
    slug = slug or f"dependency-{next(_numbers)}"
    return Dependency.objects.create(environment=where or environment(), slug=slug)


def actor(*where: Environment, scopes: frozenset[str] = SCOPES | {SYSTEM_SCOPE}) -> Actor:
    """A person who may do everything in the given environments, unless `scopes` says less."""
    return Actor(
        kind="user",
        id="0",  # no row's
        label="ana",
        environment_ids=frozenset(place.pk for place in where),
        scopes=scopes,
        source="api",
    )


def user(username: str = "", *, is_superuser: bool = False, password: str = "") -> User:
    username = username or f"user-{next(_numbers)}"
    return User.objects.create_user(
        username, password=password or None, is_staff=True, is_superuser=is_superuser
    )


def token(
    where: Environment | None = None, *, scopes: list[str] | None = None, of: Service | None = None
) -> tuple[ApiToken, str]:
    """A token with every scope of an environment, or of one service of it."""
    place = of.environment if of else where or environment()
    everything = sorted(SCOPES)
    return accounts.create_token(
        "test", scopes=scopes or everything, service=of, actor=actor(place)
    )


def client(
    where: Environment | None = None, *, scopes: list[str] | None = None, of: Service | None = None
) -> APIClient:
    """An API client with a token of that kind."""
    _row, text = token(where, scopes=scopes, of=of)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


def flag(
    where: Environment | None = None,
    key: str = "",
    *,
    kind: str = "read_only",
    of: Service | None = None,
    **values: Any,
) -> Flag:
    """A flag as a row, not engaged; nothing is published or audited."""
    place = of.environment if of else where or environment()
    key = key or f"flag-{next(_numbers)}"
    return Flag.objects.create(environment=place, service=of, key=key, kind=kind, **values)


def engaged(
    where: Environment | None = None,
    key: str = "",
    *,
    lease: timedelta | None = timedelta(minutes=30),
    by: Actor | None = None,
    **values: Any,
) -> Flag:
    """A flag that was engaged through the service, so published and audited."""
    row = flag(where, key, **values)
    return degradation.engage_flag(
        row.pk,
        version=row.version,
        lease=lease,
        reason="primary failing over",
        actor=by or actor(row.environment),
    )


def instance(of: Service | None = None, *, ago: float = 0, stopping: bool = False) -> Instance:
    """A process of a service, heard `ago` seconds ago."""
    heard = clock.now() - timedelta(seconds=ago)
    return Instance.objects.create(
        id=uuid4(),
        service=of or service(),
        name="host-1",
        started_at=heard,
        first_heard_at=heard,
        heard_at=heard,
        silent_at=heard + timedelta(seconds=15),
        stopping=stopping,
    )


def member(where: Environment | None = None, role: str = "operator") -> User:
    """A person with a role in one environment."""
    person = user()
    Membership.objects.create(user=person, environment=where or environment(), role=role)
    return person


def browser(person: User | None = None) -> Client:
    """A client with that person's session; without one, a superuser's."""
    session = Client()
    session.force_login(person or user(is_superuser=True))
    return session


def report(**members: Any) -> dict[str, Any]:
    """The body of a report: a new instance's first, of one call, unless `members` say else."""
    return {
        "instance": str(uuid4()),
        "name": "checkout-1",
        "sdk": "holdfast-python/0.1.0",
        "started_at": "2026-11-22T14:00:00Z",
        "sequence": 1,
        "window_seconds": 5.0,
        "epoch": None,
        "applied_revision": None,
        "refused": [],
        "dependencies": {"payments-api": calls()},
        "events": [],
    } | members


def calls(**members: Any) -> dict[str, Any]:
    """What a report says of one dependency: one success of 115 ms, unless `members` say else."""
    breaker = {"state": "closed", "since": None, "generation": 0, "override": None}
    return {"calls": 1, "successes": 1, "latency": {"80": 1}, "breaker": breaker} | members


def publish(where: Environment, *pieces: Piece) -> Revision:
    """A revision of these pieces, published as a service function would."""
    with transaction.atomic():
        return publication.publish(where.pk, pieces, actor=actor(where), reason="a test")


def setting(pattern: str, body: Any, service: str = "", dependency: str = "") -> Piece:
    """Settings of a pattern, for everything unless service or dependency say less."""
    return Piece(Part.SETTING, body, service=service, dependency=dependency, name=pattern)


def use(service: str, dependency: str) -> Piece:
    """That a service calls a dependency."""
    return Piece(Part.USE, {}, service=service, dependency=dependency)


def flag_piece(key: str, service: str = "", **members: Any) -> Piece:
    """An engaged flag as it is published; read_only of the whole environment unless told."""
    entry = {
        "kind": "read_only",
        "scope": "service" if service else "environment",
        "dependencies": None,
        "enabled": True,
        "value": None,
        "percentage": 100.0,
        "reason": "primary failing over",
        "set_by": "ana",
        "set_at": "2026-11-22T14:00:00Z",
        "expires_at": None,
        "on_stale": "hold",
    }
    return Piece(Part.FLAG, entry | members, service=service, name=key)


def override_piece(mode: str, service: str = "", dependency: str = "payments-api") -> Piece:
    """An override of one dependency, everywhere unless a service is named."""
    entry = {"mode": mode, "reason": "flapping", "expires_at": None, "set_by": "ana", "id": 1}
    return Piece(Part.OVERRIDE, entry, service=service, dependency=dependency)


def scope(
    where: Environment | None = None,
    dependency: Dependency | None = None,
    service: Service | None = None,
) -> Scope:
    """A scope of settings; without an environment, the dependency's or a new one."""
    place = where or (dependency.environment if dependency else environment())
    return Scope(place.pk, dependency, service)


def config(
    pattern: str = "retry", at: Scope | None = None, *, by: Actor | None = None, **values: Any
) -> Config:
    """Settings set through the service, so published and audited; `attempts` unless given."""
    place = at or scope()
    return policies.set_config(
        pattern,
        scope=place,
        values=values or {"attempts": 5},
        actor=by or actor(Environment.objects.get(pk=place.environment_id)),
    )


def override(
    at: Scope | None = None,
    *,
    mode: str = "force_open",
    lease: timedelta | None = timedelta(minutes=30),
) -> Override:
    """An override in force; of a new dependency, everywhere, unless a scope is given."""
    place = at or scope(dependency=dependency())
    return policies.engage_override(
        mode,
        scope=place,
        lease=lease,
        reason="provider is down",
        actor=actor(Environment.objects.get(pk=place.environment_id)),
    )


def marker(where: Environment | None = None, title: str = "checkout 2.4.1") -> Marker:
    """A deployment that was marked just now."""
    return add_marker(Mark(title), actor=actor(where or environment()))[0]


def uses(of: Service, what: Dependency) -> None:
    """The service calls the dependency."""
    Usage.objects.create(service=of, dependency=what, source=Usage.Source.DECLARED)


def letter_item(dedup_key: str = "", **members: Any) -> dict[str, Any]:
    """A dead letter as a service sends it: a charge that timed out, unless `members` say else."""
    return {
        "dedup_key": dedup_key or f"order-{next(_numbers)}",
        "handler": "charge-card",
        "dependency": "payments-api",
        "reason": "retries_exhausted",
        "error": {
            "class": "ConnectTimeout",
            "message": "timed out after 2.0 s",
            "stack": 'Traceback:\n  File "/srv/shop/pay.py", line 31, in charge\n    send()',
        },
        "attempts": 3,
        "first_failed_at": "2026-11-22T14:00:00Z",
        "last_failed_at": "2026-11-22T14:00:07Z",
        "idempotency_key": "charge-1",
        "headers": {"task": "charge"},
        "body": {"encoding": "utf-8", "content_type": "application/json", "data": '{"order": 1}'},
    } | members


def letters(of: Service, *keys: str, **members: Any) -> list[DeadLetter]:
    """Dead letters of a service as a capture leaves them; one unless keys say how many."""
    items = [letter_item(key, **members) for key in keys or ("",)]
    batch = read_batch(json.dumps({"items": items}).encode())
    assert all(isinstance(item, Item) for item in batch.items), batch.items
    found = deadletters.capture(of, batch.items)
    return list(DeadLetter.objects.filter(pk__in=[each.id for each in found]).order_by("pk"))


def redrive(*letters: DeadLetter, paused: bool = False) -> Redrive:
    """A redrive of these letters, of one environment; running, unless told."""
    by = actor(letters[0].environment)
    made = deadletters.redrive_letters(
        [letter.pk for letter in letters], reason="the provider is back", actor=by
    )
    if paused:
        return deadletters.pause_redrive(made.pk, version=None, reason="not yet", actor=by)
    return made


def check(
    where: Environment | None = None,
    *,
    kind: str = "tcp",
    name: str = "",
    address: str = "tcp://127.0.0.1:9",
    **values: Any,
) -> Check:
    """A check made through the service; nothing listens where it asks, unless told otherwise."""
    return health.create_check(
        name or f"check-{next(_numbers)}",
        kind=kind,
        values={"address": "" if kind in {"host", "heartbeat"} else address, **values},
        actor=actor(where or environment()),
    )


def alert_rule(where: Environment | None = None, key: str = "", **settings: Any) -> Rule:
    """A rule as a row, about errors over 5 % at once, unless `settings` say else."""
    values = {"kind": "error_rate", "threshold": 0.05, **settings}
    return Rule.objects.create(
        environment=where or environment(), key=key or f"rule-{next(_numbers)}", **values
    )


def alert(of: Rule | None = None, subject: str = "checkout → payments-api", **values: Any) -> Alert:
    """An alert that fires, as a row, unless `values` say else."""
    rule = of or alert_rule()
    now = clock.now()
    row = {"state": "firing", "active_at": now, "fired_at": now, "value": 0.5, "samples": 40}
    return Alert.objects.create(
        environment=rule.environment,
        rule=rule,
        key=rule.key,
        kind=rule.kind,
        severity=rule.severity,
        threshold=rule.threshold,
        subject=subject,
        **row | values,
    )


def silence(where: Environment | None = None, **matching: str) -> Silence:
    """A silence for an hour, of warnings unless `matching` says else."""
    names = matching or {"severity": "warning"}
    return alerts.create_silence(
        [{"name": name, "value": value} for name, value in names.items()],
        lease=timedelta(hours=1),
        reason="planned work",
        actor=actor(where or environment()),
    )


def channel(
    where: Environment | None = None,
    address: str = "http://127.0.0.1:9/hook",
    *,
    kind: str = "webhook",
    **settings: Any,
) -> Channel:
    """A channel that wants every alert, unless `settings` say else."""
    wishes = {"severities": ["critical", "error", "warning", "info"]}
    return alerts.create_channel(
        f"channel-{next(_numbers)}",
        kind=kind,
        address=address,
        settings=wishes | settings,
        actor=actor(where or environment()),
    )


def action(of: Rule | None = None, **settings: Any) -> Action:
    """An action in shadow that would switch to fallbacks, unless `settings` say else."""
    rule = of or alert_rule()
    values = {
        "flag_key": "lean",
        "flag_kind": "fallback",
        "lease_seconds": 900,
        "max_lease_seconds": 3600,
    }
    return alerts.create_action(
        rule.pk, settings=values | settings, reason="tried out", actor=actor(rule.environment)
    )
