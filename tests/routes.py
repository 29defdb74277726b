"""Every route of the API, as the server resolves them, and a row for each to find."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from apps.audit.models import Entry
from apps.fleet.models import Environment, Service
from apps.health import services as health
from apps.policies.models import CONFIGS
from apps.publication.models import Revision
from holdfast.spec import PATTERNS, PRESETS
from tests import make

PREFIX = "api/v1/"


@dataclass(frozen=True, order=True)
class Route:
    """An address and the methods its view has."""

    pattern: str  # as in `urls.py`, such as flags/<int:flag_id>
    methods: tuple[str, ...]

    def __str__(self) -> str:
        return self.pattern

    @property
    def allowed(self) -> set[str]:
        """What its `Allow` names: where there is GET there is HEAD."""
        return {*self.methods} | ({"HEAD"} if "GET" in self.methods else set())

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Converter and name of each."""
        return re.findall(r"<(\w+):(\w+)>", self.pattern)

    def path(self, values: dict[str, Any]) -> str:
        """The address with these values in the places of its parameters."""
        filled = re.sub(r"<\w+:(\w+)>", lambda match: str(values[match[1]]), self.pattern)
        return f"/{PREFIX}{filled}"


def api_routes() -> list[Route]:
    """All of them; a new one is in every test that goes over them from its first day."""
    (api,) = (found for found in get_resolver().url_patterns if str(found.pattern) == PREFIX)
    assert isinstance(api, URLResolver)
    return sorted(_routes(api))


def _routes(resolver: URLResolver) -> Iterator[Route]:
    for found in resolver.url_patterns:
        if isinstance(found, URLPattern):
            made = found.callback
            view = made.view_class(**made.view_initkwargs)  # type: ignore[attr-defined]  # all are
            names = [name.upper() for name in view.http_method_names if hasattr(view, name)]
            yield Route(str(found.pattern), tuple(names))
        else:
            yield from _routes(found)


@dataclass(frozen=True)
class Rows:
    """A row of each kind in one environment."""

    ids: dict[str, Any]  # by the parameter that addresses it
    configs: dict[str, int]  # ids, by pattern

    def found_by(self, address: str, parameters: list[str]) -> dict[str, Any]:
        """The parameters with which an address finds its row."""
        return {name: self._one(address, name) for name in parameters}

    def _one(self, address: str, parameter: str) -> Any:
        if parameter == "config_id":
            return self.configs[address.partition("configs/")[2].partition("/")[0]]
        if parameter == "flag_id" and address.endswith(("/end", "/extend")):
            return self.ids["engaged_flag_id"]
        if parameter == "redrive_id" and address.endswith("/resume"):
            return self.ids["paused_redrive_id"]
        if parameter == "check_id" and address.endswith("/ping"):
            return self.ids["heartbeat_id"]
        if parameter == "rule_id" and address.endswith("/restore"):
            return self.ids["default_rule_id"]
        return self.ids[parameter]


def rows_of_each_kind(environment: Environment) -> Rows:
    health.take_pulse("celery")  # as a worker does
    service, dependency = make.service(environment), make.dependency(environment)
    scope = make.scope(environment, dependency, service)
    configs = {
        pattern: make.config(pattern, scope, **settings).pk
        for pattern, settings in default_settings().items()
    }
    rule = make.alert_rule(environment)
    ids = {
        "service": service.slug,
        "dependency": dependency.slug,
        "service_id": service.pk,
        "dependency_id": dependency.pk,
        "environment_id": environment.pk,
        "flag_id": make.flag(environment).pk,
        "engaged_flag_id": make.engaged(environment).pk,
        "override_id": make.override(scope).pk,
        "instance_id": str(make.instance(service).pk),
        "token_id": make.token(environment)[0].pk,
        "check_id": make.check(environment).pk,
        "heartbeat_id": make.check(environment, kind="heartbeat").pk,
        "marker_id": make.marker(environment).pk,
        "entry_id": str(Entry.objects.latest("at").pk),
        "number": Revision.objects.earliest("number").number,
        "name": next(iter(PRESETS)),
        **_dead_letters(service),
        "rule_id": rule.pk,
        "default_rule_id": make.alert_rule(environment, "error-rate-high").pk,
        "alert_id": make.alert(rule).pk,
        "silence_id": make.silence(environment).pk,
        "channel_id": make.channel(environment).pk,
        "action_id": make.action(rule).pk,
    }
    return Rows(ids, configs)


def _dead_letters(service: Service) -> dict[str, Any]:
    """One that waits, one whose redrive runs, and one whose redrive is paused."""
    letter, other, third = make.letters(service, "order-1", "order-2", "order-3")
    return {
        "letter_id": letter.pk,
        "group_id": letter.group_id,
        "redrive_id": make.redrive(other).pk,
        "paused_redrive_id": make.redrive(third, paused=True).pk,
    }


def default_settings() -> dict[str, dict[str, Any]]:
    """One setting of each pattern, as the SDK has it if nobody sets it."""
    first = {pattern: next(iter(PATTERNS[pattern].settings.values())) for pattern in CONFIGS}
    return {pattern: {setting.key: setting.default} for pattern, setting in first.items()}
