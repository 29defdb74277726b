"""Carrying one message to one receiver through apprise, and saying what came of it.

Nothing of an address is in what is said: receivers' errors are cut to what is ours to know.
"""

import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import apprise
import httpx
from apprise.plugins.base import NotifyBase

from apps.alerts.rules.attempts import PERMANENT, SEND_SECONDS
from apps.core.heard import printable

# Schemes of apprise that act on this machine instead of telling somebody.
LOCAL = frozenset({"dbus", "gnome", "glib", "kde", "macosx", "qt", "syslog", "windows", "blink1"})
MAIL = frozenset({"mailto", "mailtos"})
_EXAMPLES = {
    "mail": "mailto://user:password@smtp.example.org?from=holdfast@example.org&to=ops@example.org",
    "apprise": "a URL that apprise knows, such as slack://…",
}
_LONGEST_ERROR = 200


@dataclass(frozen=True)
class Message:
    """What is carried: words for people, a document for programs."""

    title: str
    body: str
    document: Mapping[str, Any]
    is_trouble: bool = True


@dataclass(frozen=True)
class Receipt:
    """What came of one attempt."""

    is_delivered: bool
    error: str = ""
    status: int | None = None  # of HTTP, where it is known
    seconds: float = 0.0

    @property
    def is_permanent(self) -> bool:
        """Whether trying again is no use: the receiver is gone."""
        return not self.is_delivered and self.status in PERMANENT


class Unusable(ValueError):
    """The address is none that this kind of channel can carry to."""


def check(kind: str, address: str) -> None:
    """Raises Unusable for an address that no message can be sent to."""
    _plugin(kind, address)


def shown(kind: str, address: str) -> str:
    """What of an address holds no password or token, for people.

    Of an http address the server; of mail whom it goes to; of all else only which service it is.
    """
    parts = urlsplit(address)
    if kind == "webhook":
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}/…"
    if kind == "mail":
        people = ", ".join(mailbox for _name, mailbox in _plugin(kind, address).targets)
        return f"{parts.scheme}://… → {people}"[:200]
    return f"{parts.scheme}://…"


def carry(kind: str, address: str, message: Message) -> Receipt:
    """Make one attempt; it ends within `SEND_SECONDS` or is given up."""
    began = time.monotonic()
    outcome: list[Receipt] = []
    thread = threading.Thread(
        target=lambda: outcome.append(_attempt(kind, address, message)), daemon=True
    )
    thread.start()
    thread.join(SEND_SECONDS)
    took = time.monotonic() - began
    if not outcome:
        return Receipt(False, f"no answer within {SEND_SECONDS:g} s", seconds=took)
    found = outcome[0]
    return Receipt(found.is_delivered, found.error, found.status, took)


def _attempt(kind: str, address: str, message: Message) -> Receipt:
    try:
        plugin = _plugin(kind, address, message.document)
        with _Heard() as heard:
            servant = apprise.Apprise()
            servant.add(plugin)
            is_delivered = servant.notify(
                title=message.title,
                body=message.body,
                notify_type=_type(message),
                body_format=apprise.NotifyFormat.TEXT,
            )
    except Exception as error:  # noqa: BLE001 – a receiver's plugin: whatever it raises is its answer
        return Receipt(False, type(error).__name__)
    if is_delivered:
        return Receipt(True)
    if isinstance(plugin, Webhook):
        return Receipt(False, plugin.error, plugin.status)
    return Receipt(False, heard.text(address), heard.status)


def _type(message: Message) -> apprise.NotifyType:
    return apprise.NotifyType.FAILURE if message.is_trouble else apprise.NotifyType.SUCCESS


class Webhook(NotifyBase):  # type: ignore[misc]  # apprise is untyped
    """Posts our document as it is, and remembers the status of the answer."""

    service_name = "Holdfast webhook"
    secure_protocol = "https"
    protocol = "http"
    templates = ("{schema}://{host}",)
    request_rate_per_sec = 0.0

    def __init__(self, address: str, document: Mapping[str, Any]) -> None:
        parts = urlsplit(address)
        super().__init__(schema=parts.scheme, host=parts.hostname)
        self._address = address
        self._document = document
        self.status: int | None = None
        self.error = ""

    def url(self, privacy: bool = False, *args: Any, **kwargs: Any) -> str:
        return shown("webhook", self._address)

    def send(self, body: str, title: str = "", **_: Any) -> bool:
        """One POST; redirects are not followed."""
        try:
            answer = httpx.post(
                self._address,
                content=json.dumps(self._document).encode(),
                headers={"Content-Type": "application/json", "User-Agent": "Holdfast"},
                timeout=SEND_SECONDS / 2,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self.error = type(error).__name__
            return False
        self.status = answer.status_code
        if answer.is_success:
            return True
        self.error = f"HTTP {answer.status_code}"
        return False


def _plugin(kind: str, address: str, document: Mapping[str, Any] | None = None) -> NotifyBase:
    """The plugin that carries to this address; raises Unusable."""
    if kind == "webhook":
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Unusable("an http:// or https:// address")
        return Webhook(address, document or {})
    scheme = address.partition("://")[0].lower()
    expected = _EXAMPLES[kind]
    if (kind == "mail" and scheme not in MAIL) or scheme in LOCAL | {"http", "https"}:
        raise Unusable(expected)
    found = apprise.Apprise.instantiate(address, suppress_exceptions=True)
    if not isinstance(found, NotifyBase):
        raise Unusable(expected)
    found.socket_connect_timeout = found.socket_read_timeout = SEND_SECONDS / 2
    return found


@dataclass
class _Heard:
    """What apprise logs in this thread: it returns only whether it went well."""

    lines: list[str] = field(default_factory=list)

    def __enter__(self) -> "_Heard":
        self._handler = _Listener(self.lines, threading.get_ident())
        logging.getLogger("apprise").addHandler(self._handler)
        return self

    def __exit__(self, *_error: object) -> None:
        logging.getLogger("apprise").removeHandler(self._handler)

    @property
    def status(self) -> int | None:
        """Of HTTP, as apprise words it: "…, error=404."."""
        for line in self.lines:
            digits = line.partition("error=")[2][:3]
            if digits.isascii() and digits.isdigit():
                return int(digits)
        return None

    def text(self, address: str) -> str:
        """The first line, without what is in the address."""
        text = self.lines[0] if self.lines else "refused"
        parts = urlsplit(address)
        secrets = {parts.password, parts.username, *parts.path.split("/"), parts.query, address}
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            for spelled in (secret, unquote(secret)):
                if len(spelled) > 3:
                    text = text.replace(spelled, "…")
        return printable(text, _LONGEST_ERROR)


class _Listener(logging.Handler):
    def __init__(self, lines: list[str], thread: int) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines
        self._thread = thread

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._lines.append(record.getMessage())
