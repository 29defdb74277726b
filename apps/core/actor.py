"""Who acts: a person, a token or an automation, and what they may do where."""

import getpass
import os
from dataclasses import dataclass, replace
from typing import Literal, get_args

from django.utils.translation import gettext as _

from apps.core.errors import RuleBroken

Kind = Literal["user", "token", "automation", "command"]
KINDS: list[str] = list(get_args(Kind))

SCOPES = frozenset(
    {
        "policies:read",
        "reports:write",
        "deadletters:write",
        "redrives:work",
        "flags:write",
        "overrides:write",
        "config:read",
        "config:write",
        "redrives:write",
        "alerts:write",
        "markers:write",
        "audit:read",
        "tokens:write",
        "health:read",
        "metrics:read",
        "wall:read",
    }
)
SYSTEM_SCOPE = "system:write"  # environments, people, epochs: superusers only, never a token


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of a change, already narrowed to where they act.

    `scopes` hold in every one of `environment_ids`; a door that acts on a single row narrows
    to that row's environment first.
    """

    kind: Kind
    id: str
    label: str  # shown to people: user name, token name, name of the automation
    environment_ids: frozenset[int]
    scopes: frozenset[str]
    source: str  # ui, api, admin, task, command
    service_id: int | None = None  # tokens may be bound to one service
    request_id: str = ""
    address: str = ""

    @property
    def environment_id(self) -> int:
        """The one environment this request is about.

        Raises:
            RuleBroken: the caller can see several and named none.
        """
        if len(self.environment_ids) != 1:
            raise RuleBroken(
                _("Name the environment this is about: add ?environment=<slug> to the address."),
                code="environment_required",
            )
        return next(iter(self.environment_ids))

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def sees(self, environment_id: int) -> bool:
        return environment_id in self.environment_ids


def automation(name: str, environment_id: int) -> Actor:
    """Holdfast itself, acting in one environment (a lease that ends, a discovery)."""
    return Actor(
        kind="automation",
        id=name,
        label=name,
        environment_ids=frozenset({environment_id}),
        scopes=SCOPES,
        source="task",
    )


def command(name: str, environment_ids: frozenset[int]) -> Actor:
    """Somebody with a shell on the server, who may do everything; labelled by the system's name."""
    try:
        label = f"{name} by {getpass.getuser()}"
    except (OSError, KeyError):  # a user without a name, as containers have; KeyError before 3.13
        label = f"{name} by uid {os.getuid()}"
    return replace(
        automation(name, 0),
        kind="command",
        label=label,
        environment_ids=environment_ids,
        scopes=SCOPES | {SYSTEM_SCOPE},
        source="command",
    )
