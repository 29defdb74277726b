"""A screen on a wall logs in once, by its token, and then shows a signed cookie instead."""

from collections.abc import Mapping
from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.http import HttpResponseBase

from apps.accounts.models import ApiToken
from apps.core import clock

COOKIE = "holdfast_kiosk"
SALT = "holdfast.kiosk"
LONGEST = timedelta(days=365)  # the token itself ends earlier when it expires or is revoked


def give(response: HttpResponseBase, token: ApiToken) -> None:
    """Set the cookie. It names the token and is signed; the secret is not in it."""
    lifetime = LONGEST
    if token.expires_at is not None:
        lifetime = min(lifetime, token.expires_at - clock.now())
    response.set_cookie(
        COOKIE,
        signing.dumps(token.pk, salt=SALT),
        max_age=lifetime,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )


def token_of(cookies: Mapping[str, str]) -> int | None:
    """The token the cookie names; None without a cookie, or with one that is not ours."""
    text = cookies.get(COOKIE)
    if text is None:
        return None
    try:
        found = signing.loads(text, salt=SALT, max_age=LONGEST)
    except signing.BadSignature:
        return None
    return found if isinstance(found, int) else None
