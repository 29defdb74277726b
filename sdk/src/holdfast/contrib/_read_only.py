"""What the middlewares share: which requests read-only mode stops, and what they are answered."""

import math
from collections.abc import Iterable

import msgspec

from holdfast.client import Holdfast

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1
CLIENT_LEFT = 499  # nginx's status for a request nobody waits for any more
CONTENT_TYPE = "application/problem+json"
_RETRY_AFTER_SECONDS = 30  # for a flag without end
_LONGEST_RETRY_AFTER = 3600


class Exempt:
    """Paths that stay open in read-only mode.

    An entry that ends in a slash opens everything below it, any other exactly itself: never what
    merely contains or resembles it.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        paths = tuple(paths)
        if wrong := [path for path in paths if not path.startswith("/")]:
            raise ValueError(f"exempt paths start with a slash: {wrong}")
        self._below = tuple(path for path in paths if path.endswith("/"))
        self._exact = frozenset(path for path in paths if not path.endswith("/"))

    def __contains__(self, path: str) -> bool:
        if path in self._exact:
            return True
        # A server in front may resolve dots; what it then asks for is not below the entry.
        return path.startswith(self._below) and ".." not in path.split("/")


def is_stopped(client: Holdfast, method: str, path: str, exempt: Exempt) -> bool:
    """Whether read-only mode stops a request. Every method not known to be safe may write."""
    return method not in SAFE_METHODS and client.read_only and path not in exempt


def retry_after(client: Holdfast) -> int:
    """Whole seconds after which writing may work again, 1 to 3,600."""
    flag = client.read_only_flag
    if flag is None or flag.remaining_seconds is None:
        return _RETRY_AFTER_SECONDS
    return max(1, min(math.ceil(flag.remaining_seconds), _LONGEST_RETRY_AFTER))


def problem(path: str) -> bytes:
    """The body of the answer. The operator's reason stays inside: callers may be anybody."""
    return msgspec.json.encode(
        {
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "Changes are switched off for the time being; reading works.",
            "code": "read_only",
            "instance": path,
        }
    )
