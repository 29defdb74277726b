"""Sessions in the database, for keys that can be ours."""

import re

from django.contrib.sessions.backends import db

_KEY = re.compile(r"[a-z0-9]{32}")


class SessionStore(db.SessionStore):
    """Django's, which asks the database for whatever a cookie holds.

    A quoted cookie may hold a NUL, and PostgreSQL answers that with an error instead of no row.
    """

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key if _KEY.fullmatch(session_key or "") else None)
