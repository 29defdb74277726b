"""Where a check may go, and what it may be told: addresses, settings, forbidden networks.

An operator who may write checks may have Holdfast connect to any host it reaches, loopback and
private networks included: those are what needs watching. Never to link-local and metadata
addresses, where clouds keep credentials, nor to multicast or unspecified ones. The address a name
resolves to is judged, and that very address is connected to, so that a name cannot change its mind.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

Errors = dict[str, list[str]]

SCHEMES: Mapping[str, Mapping[str, int]] = {  # scheme: port where none is given; 0: one is needed
    "http": {"http": 80, "https": 443},
    "tcp": {"tcp": 0},
    "postgresql": {"postgresql": 5432, "postgres": 5432},
    "redis": {"redis": 6379, "rediss": 6379},
    "rabbitmq": {"amqp": 5672, "amqps": 5671},
    "celery": {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671},
    "host": {},
    "heartbeat": {},
}
EXAMPLES = {
    "http": "https://api.example.com/health",
    "tcp": "tcp://mail.example.com:25",
    "postgresql": "postgresql://holdfast@db.example.com:5432/shop?sslmode=require",
    "redis": "redis://cache.example.com:6379/0",
    "rabbitmq": "amqp://holdfast@mq.example.com:5672/shop",
    "celery": "redis://mq.example.com:6379/0",
    "host": "",
    "heartbeat": "",
}
PLACELESS = {
    "host": gettext_lazy("Holdfast's host has no address."),
    "heartbeat": gettext_lazy("A heartbeat has no address: its job pings Holdfast."),
}
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
LONGEST_SECRET = 2000  # characters
LONGEST_TEXT = 200  # characters of a setting
_STATUSES = re.compile(r"\d{3}(-\d{3})?(,\d{3}(-\d{3})?)*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._:@/-]{1,200}", re.ASCII)
_PATH = re.compile(r"[^.\s]+(\.[^.\s]+){0,9}")
# Beside link-local networks: the metadata services of clouds that are elsewhere.
METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")))


@dataclass(frozen=True, slots=True)
class Target:
    """What a probe is given."""

    kind: str
    address: str
    secret: str = field(repr=False)
    options: Mapping[str, Any]
    timeout: float  # seconds
    check_id: int = 0
    has_started: bool = False  # of a heartbeat: its job began, and has not ended


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a check's address."""

    scheme: str
    host: str
    port: int
    user: str
    path: str  # with its slash; of HTTP also the query
    query: Mapping[str, str]

    @property
    def is_encrypted(self) -> bool:
        return self.scheme in {"https", "rediss", "amqps"}

    @property
    def name(self) -> str:
        """The path without its slash: database, number, virtual host."""
        return unquote(self.path.removeprefix("/"))


def parse(kind: str, text: str) -> Address:
    """The parts of an address that `address_errors` found nothing wrong with."""
    parts = urlsplit(text)
    known = SCHEMES[kind]
    path = parts.path or "/"
    if kind == "http" and parts.query:
        path = f"{path}?{parts.query}"
    return Address(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or known[parts.scheme],
        user=unquote(parts.username or ""),
        path=path,
        query={} if kind == "http" else dict(parse_qsl(parts.query)),
    )


def place_of(kind: str, address: str) -> str:
    """The host that an address names; empty where nothing is asked over a network."""
    return "" if kind in PLACELESS or not address else urlsplit(address).hostname or ""


def address_errors(kind: str, text: str, *, is_enabled: bool) -> list[str]:
    """What is wrong with an address of this kind; nothing if it can be probed."""
    if kind in PLACELESS:
        return [str(PLACELESS[kind])] if text else []
    if not text:
        return [_("Say where it is, such as %s.") % EXAMPLES[kind]] if is_enabled else []
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        return [_("This is not an address.")]
    if not text.isprintable() or " " in text or len(text) > 500:
        return [_("This is not an address.")]
    if parts.scheme not in SCHEMES[kind]:
        text = _("It begins with %(schemes)s, such as %(example)s.")
        schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES[kind])
        return [text % {"schemes": schemes, "example": EXAMPLES[kind]}]
    if parts.password is not None:
        return [_("Leave the password out of the address: `secret` keeps it sealed.")]
    return _place_errors(kind, host, port or SCHEMES[kind][parts.scheme]) or _rest_errors(
        kind, parts.path, parts.query, parts.fragment
    )


def _place_errors(kind: str, host: str, port: int) -> list[str]:
    if not host:
        return [_("It names no host.")]
    if not port:
        return [_("It names no port, such as %s.") % EXAMPLES[kind]]
    if not is_numeric(host):  # a name: judged when it is resolved
        return []
    reason = forbidden(host)
    return [reason] if reason else []


def _rest_errors(kind: str, path: str, query: str, fragment: str) -> list[str]:
    if fragment:
        return [_("It has a fragment (#…), which is never sent.")]
    if kind == "http":
        return []
    given = dict(parse_qsl(query, keep_blank_values=True))
    if kind == "postgresql" and given.keys() <= {"sslmode"}:
        is_known = given.get("sslmode", "prefer") in SSL_MODES
        return [] if is_known else [_("sslmode is one of %s.") % ", ".join(SSL_MODES)]
    if query:
        return [_("Nothing may follow a question mark, but sslmode of PostgreSQL.")]
    if kind in {"redis", "celery"} and path.strip("/") and not path.strip("/").isdigit():
        return [] if kind == "celery" else [_("The path is the number of the database.")]
    return []


def is_numeric(host: str) -> bool:
    """Whether a host is an address by itself, not a name."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def forbidden(address: str) -> str:
    """Why nothing may be asked of a numeric address; empty: it may.

    Raises:
        ValueError: it is a name.
    """
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_multicast or found.is_unspecified:
        return _("Nothing can be asked of multicast and unspecified addresses.")
    is_local = found.is_link_local or found in METADATA
    if is_local and not settings.HEALTH_ALLOW_LINK_LOCAL:
        return _("Link-local and metadata addresses are not asked; see HEALTH_ALLOW_LINK_LOCAL.")
    return ""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of a kind of check."""

    default: Any
    help: str
    choices: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    bounds: tuple[float, float] | None = None  # of a whole number, if the default is one
    is_json: bool = False  # a value that is compared with one of JSON

    def error(self, value: Any) -> str:
        """What is wrong with a value; empty: nothing."""
        if self.choices and value not in self.choices:
            return _("It is one of %s.") % ", ".join(self.choices)
        if isinstance(self.default, bool):
            return "" if isinstance(value, bool) else _("It is true or false.")
        if self.bounds is not None:
            return self._number_error(value, *self.bounds)
        if self.is_json:
            return "" if _is_plain(value) else _("It is text, a number, true, false or null.")
        if not isinstance(value, str):
            return _("It is text.")
        if len(value) > LONGEST_TEXT or "\0" in value:
            return _("It has at most %d characters, and no NUL.") % LONGEST_TEXT
        is_fine = self.pattern is None or not value or self.pattern.fullmatch(value)
        return "" if is_fine else _("It is not of the right form: %s") % self.help

    def _number_error(self, value: Any, least: float, most: float) -> str:
        kinds = int if isinstance(self.default, int) else int | float
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if is_number and least <= value <= most:
            return ""
        if kinds is int:
            words = {"least": least, "most": most}
            return _("Must be a whole number from %(least)g to %(most)g.") % words
        return _("Must be from %(least)g to %(most)g.") % {"least": least, "most": most}


def _is_plain(value: Any) -> bool:
    """Whether it is a value of JSON that holds no others, and not too long to keep."""
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT and "\0" not in value
    return value is None or (isinstance(value, bool | int | float) and abs(value) <= 2**53)


_WRITE_PROBE = Option(True, "Whether it also tries a write, to notice a server that only reads.")
_QUEUE = Option("", "Name of a queue whose length is measured besides.", pattern=_NAME)
_MOST_WAITING = Option(
    0, "With more messages waiting in `queue`, degraded; 0: never.", bounds=(0, 10**9)
)
OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "http": {
        "method": Option("GET", "GET or HEAD.", choices=("GET", "HEAD")),
        "expected_status": Option(
            "200-299", "Statuses and ranges with commas between: 200-299,401.", pattern=_STATUSES
        ),
        "verify_certificate": Option(True, "Whether the certificate must be valid."),
        "certificate_days": Option(
            14, "With fewer days until the certificate ends, degraded; 0: never.", bounds=(0, 365)
        ),
        "follow_redirects": Option(
            0, "How many redirects it follows, each judged like an address.", bounds=(0, 5)
        ),
        "body_contains": Option("", "Text that the answer must have in it."),
        "body_lacks": Option("", "Text that the answer must not have in it."),
        "json_path": Option(
            "", "Where to look in an answer in JSON, such as status or parts.0.up.", pattern=_PATH
        ),
        "json_equals": Option(None, "What must be there; null: anything.", is_json=True),
    },
    "tcp": {},
    "postgresql": {"write_probe": _WRITE_PROBE},
    "redis": {"write_probe": _WRITE_PROBE},
    "rabbitmq": {
        "queue": _QUEUE,
        "most_waiting": _MOST_WAITING,
        "fewest_consumers": Option(
            0, "With fewer consumers of `queue`, degraded.", bounds=(0, 10_000)
        ),
    },
    "celery": {
        "queue": Option("celery", "The queue that the workers take tasks from.", pattern=_NAME),
        "task": Option("holdfast.canary", "Name of the canary task.", pattern=_NAME),
        "most_waiting": _MOST_WAITING,
    },
    "host": {
        "cpu_share": Option(0.95, "Of processor time; above it, degraded.", bounds=(0.01, 1)),
        "memory_share": Option(0.85, "Of memory used; above it, degraded.", bounds=(0.01, 1)),
        "disk_free_share": Option(0.1, "Of disk free; below it, degraded.", bounds=(0, 0.99)),
        "network_bytes": Option(
            0, "Received and sent, a second; above it, degraded; 0: never.", bounds=(0, 10**12)
        ),
    },
    "heartbeat": {
        "grace_seconds": Option(
            60.0, "How late a ping may be until it is missed.", bounds=(1, 604_800)
        ),
        "longest_seconds": Option(
            3600.0, "How long its job may run once it told that it began.", bounds=(1, 604_800)
        ),
    },
}


def option(target: Target, name: str) -> Any:
    """The value of a setting, or its default."""
    return target.options.get(name, OPTIONS[target.kind][name].default)


def option_errors(kind: str, options: Mapping[str, Any]) -> Errors:
    """What is wrong with the settings, by `settings.<name>`."""
    known = OPTIONS[kind]
    errors: Errors = {}
    for name, value in options.items():
        if name not in known:
            names = ", ".join(known) or _("none")
            text = _("Unknown setting of this kind. Known settings: %s.") % names
        else:
            text = known[name].error(value)
        if text:
            errors[f"settings.{name[:80]}"] = [text]
    return errors or _together_errors(kind, options)


def _together_errors(kind: str, options: Mapping[str, Any]) -> Errors:
    """What is wrong with settings that are fine one by one."""
    if options.get("json_equals") is not None and not options.get("json_path"):
        return {"settings.json_path": [_("Say where `json_equals` is to be looked for.")]}
    reads = any(options.get(name) for name in ("body_contains", "body_lacks", "json_path"))
    if kind == "http" and reads and options.get("method") == "HEAD":
        return {"settings.method": [_("An answer to HEAD has no body to look into.")]}
    limited = [name for name in ("most_waiting", "fewest_consumers") if options.get(name)]
    if kind == "rabbitmq" and limited and not options.get("queue"):
        return {"settings.queue": [_("Say of which queue `%s` is.") % limited[0]]}
    return {}


def is_expected(status: int, expected: str) -> bool:
    """Whether an HTTP status is in "200-299,401"."""
    for part in expected.split(","):
        least, _dash, most = part.partition("-")
        if int(least) <= status <= int(most or least):
            return True
    return False
