"""What a probe found, and what its errors are called: in words of ours, which hold no secret."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.translation import gettext as _

from apps.core.heard import printable
from apps.health import rules

LONGEST_DETAIL = 300  # characters, of a fact in words too
LARGEST_NUMBER = 2**63


class Refused(Exception):
    """The probe itself found what is wrong; its text is for people and holds no secret."""


@dataclass(frozen=True)
class Outcome:
    """What came of one run. `latency` is in seconds, None if it did not get an answer.

    Whatever a server said of itself can be written down and shown: of texts what is no character
    is replaced and what is too long cut off, and numbers that are none are left out.
    """

    mark: str  # rules.OK, IMPAIRED, FAILED
    detail: str = ""
    latency: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", printable(self.detail, LONGEST_DETAIL))
        object.__setattr__(self, "facts", _writable(self.facts))

    @property
    def is_ok(self) -> bool:
        return self.mark != rules.FAILED

    def slower_than(self, bound: float | None) -> "Outcome":
        """The same, impaired if it took longer than `bound` seconds."""
        if bound is None or self.mark != rules.OK or (self.latency or 0.0) <= bound:
            return self
        took = self.latency or 0.0
        text = _("slow: %(took).3f s, over %(bound)g s") % {"took": took, "bound": bound}
        return replace(self, mark=rules.IMPAIRED, detail=text)


def _writable(facts: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            found[name] = _writable(value)
        elif isinstance(value, str):
            found[name] = printable(value, LONGEST_DETAIL)
        elif isinstance(value, int | float) and abs(value) < LARGEST_NUMBER:  # NaN is not
            found[name] = value
    return found


def fine(latency: float, detail: str = "", **facts: Any) -> Outcome:
    return Outcome(rules.OK, detail, latency, facts)


def failed(detail: str) -> Outcome:
    return Outcome(rules.FAILED, detail)


def named(error: BaseException) -> str:
    """What an error is called for people. Texts of libraries are not repeated: they may quote
    addresses with passwords, and what a stranger's server said.
    """
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, TimeoutError):
        return _("no answer in time")
    if isinstance(error, ssl.SSLCertVerificationError):
        return _("the certificate is not valid: %s") % error.verify_message
    if isinstance(error, ssl.SSLError):
        return _("no encrypted connection: the other side speaks another protocol")
    return _of_network(error)


def _of_network(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return _("connection refused: nothing listens there")
    if isinstance(error, ConnectionError):
        return _("the connection broke")
    if isinstance(error, OSError) and error.strerror:
        return _("not reachable: %s") % error.strerror
    cause = error.__cause__ or error.__context__
    return named(cause) if cause is not None else _("failed (%s)") % type(error).__name__
