"""Passwords that Holdfast itself must use, kept so that a copy of the database tells nobody.

The key is derived from `SECRET_KEY`; what was sealed under an earlier one still opens while that is
in `SECRET_KEY_FALLBACKS`.
"""

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class CannotOpen(Exception):
    """The text was sealed under a key that is no longer configured, or was tampered with."""


def seal(text: str) -> str:
    """`text` encrypted and authenticated; empty stays empty."""
    return _box().encrypt(text.encode()).decode() if text else ""


def unseal(sealed: str) -> str:
    """What was sealed.

    Raises:
        CannotOpen: no configured key opens it.
    """
    if not sealed:
        return ""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise CannotOpen("no configured SECRET_KEY opens what is stored") from error


def _box() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_key(secret)) for secret in keys])


def _key(secret: str) -> bytes:
    digest = hashlib.sha256(b"holdfast.sealing." + secret.encode()).digest()
    return base64.urlsafe_b64encode(digest)
