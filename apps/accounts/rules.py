"""What each role may do, and what a token looks like."""

import hashlib
import hmac
import re
import secrets
import string
from datetime import timedelta

from apps.core.actor import SCOPES

_VIEWER = frozenset({"config:read", "audit:read", "health:read", "metrics:read", "wall:read"})
_OPERATOR = _VIEWER | {
    "config:write",
    "flags:write",
    "overrides:write",
    "redrives:write",
    "alerts:write",
    "markers:write",
}
ROLE_SCOPES: dict[str, frozenset[str]] = {
    "viewer": _VIEWER,
    "operator": _OPERATOR,
    "administrator": _OPERATOR | {"tokens:write"},
}
SERVICE_SCOPES = ("policies:read", "reports:write")

TOKEN = re.compile(r"^hf_([a-z0-9]{12})_([A-Za-z0-9]{43})$", re.ASCII)
_LIFETIME = re.compile(r"^(\d{1,5})([smhdw])$")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def new_token() -> tuple[str, str]:
    """`(selector, secret)`: 62 bits to be found by, 256 bits to be trusted by."""
    low = string.ascii_lowercase + string.digits
    selector = "".join(secrets.choice(low) for _ in range(12))
    secret = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(43))
    return selector, secret


def split_token(text: str) -> tuple[str, str] | None:
    """Selector and secret of a token; None when it is not one of ours."""
    match = TOKEN.fullmatch(text)
    return (match.group(1), match.group(2)) if match else None


def verifier_of(secret: str) -> str:
    """What is stored of a secret: its SHA-256, in hex. 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_secret(secret: str, verifier: str) -> bool:
    """Whether `secret` has this verifier, in constant time."""
    return hmac.compare_digest(verifier_of(secret), verifier)


def failures_key(name: str, address: str) -> str:
    """What failed logins of a name from an address are counted under; "" for any name."""
    return hashlib.sha256(f"{name.casefold()}\0{address}".encode()).hexdigest()


def unknown_scopes(scopes: list[str]) -> list[str]:
    return sorted(set(scopes) - SCOPES)


def lifetime(text: str) -> timedelta:
    """`90d`, `12h`, `30m` as a timedelta; raises ValueError for anything else."""
    match = _LIFETIME.fullmatch(text)
    if match is None or int(match.group(1)) == 0:
        raise ValueError(f"{text!r} is not a time such as 30m, 12h or 90d")
    return timedelta(**{_UNITS[match.group(2)]: int(match.group(1))})
