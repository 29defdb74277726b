"""What makes failures alike, which states a letter may leave, how attempts add up. No Django."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

UNRESOLVED = frozenset(
    {"new", "acknowledged", "redrive_pending", "redriven", "refailed", "quarantined"}
)
OVER = frozenset({"resolved", "discarded"})
REDRIVABLE = frozenset({"new", "acknowledged", "refailed", "quarantined"})
IN_BULK = REDRIVABLE - {"quarantined"}  # poison is redriven by those who choose it, one by one
DISCARDABLE = REDRIVABLE
ACKNOWLEDGEABLE = frozenset({"new", "refailed"})

QUARANTINE_AFTER = 3  # redrives in a row that failed again
MOST_COUNTED = 50  # failures of a letter that are remembered to tell replays
REDACTED = "<redacted>"
SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token"}
)

# -- what is alike -------------------------------------------------------------------------------
LONGEST_STACK = 65_536  # characters looked at, from the end, where the failing frames are
LONGEST_MESSAGE = 500
FRAMES = 3
_FOREIGN = ("site-packages", "dist-packages", "node_modules", "<frozen", "/lib/python", "java.")
# Of Python, then of Java and JavaScript. Each works on one bounded line, in linear time.
_PYTHON_FRAME = re.compile(r'^\s*File "([^"\n]{1,500})", line \d+, in ([^\n]{1,200})$')
_OTHER_FRAME = re.compile(r"^\s*at ([\w.$<>]{1,300}) ?\(([^()\n]{0,500})\)$")
# In Sentry's order, so that a part of an address is not taken for a number first.
_VARIABLE = re.compile(
    r"""(?P<email>[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,190})
    |(?P<url>\b[a-z]{2,10}://[^\s'"]{1,300})
    |(?P<uuid>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)
    |(?P<ip>\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b)
    |(?P<date>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?\b)
    |(?P<hex>\b(?:0x[0-9a-fA-F]{1,64}|[0-9a-f]{16,64})\b)
    |(?P<quoted>'[^'\n]{0,200}'|"[^"\n]{0,200}")
    |(?P<number>(?<![\w.])[+-]?\d{1,40}(?:\.\d{1,40})?)""",
    re.VERBOSE,
)


def fingerprint_of(error_class: str, message: str, stack: str, handler: str) -> str:
    """What is the same for failures alike: class, in-app frames, handler and kind of message.

    Line numbers, and whatever a message says of one case (ids, addresses, times), play no part.
    Source: the precedence and the order of replacements of Sentry's grouping.
    """
    parts = [error_class, handler, *in_app_frames(stack), parameterised(message)]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def in_app_frames(stack: str) -> list[str]:
    """`module.function` of the newest frames that are the service's own, at most three."""
    found = []
    for line in stack[-LONGEST_STACK:].splitlines():
        frame = _frame(line[:800])
        if frame is not None and not any(part in line for part in _FOREIGN):
            found.append(frame)
    is_newest_last = "Traceback" in stack or 'File "' in stack
    return found[-FRAMES:] if is_newest_last else found[:FRAMES]


def _frame(line: str) -> str | None:
    if match := _PYTHON_FRAME.match(line):
        module = match[1].replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".py")
        return f"{module}.{match[2]}"
    if match := _OTHER_FRAME.match(line):
        return match[1]
    return None


def parameterised(message: str) -> str:
    """The message with what varies from case to case replaced by its kind, such as `<uuid>`."""
    text = message[:LONGEST_MESSAGE]
    return _VARIABLE.sub(lambda match: f"<{match.lastgroup}>", text)


def title_of(error_class: str, message: str) -> str:
    """One line for people: the class and the first line of what it said."""
    first = message.strip().splitlines()[0] if message.strip() else ""
    return f"{error_class}: {first}"[:300] if first else error_class[:300]


# -- how attempts add up -------------------------------------------------------------------------


def is_replay(counted: Sequence[int], failed_at: datetime) -> bool:
    """Whether this failure was counted before, or is older than all that are remembered."""
    moment = stamp(failed_at)
    return moment in counted or (len(counted) >= MOST_COUNTED and moment < min(counted))


def with_counted(counted: Iterable[int], failed_at: datetime) -> list[int]:
    """What is remembered once this failure is counted too."""
    return sorted({*counted, stamp(failed_at)})[-MOST_COUNTED:]


def stamp(moment: datetime) -> int:
    """Microseconds since 1970, exact."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def after_failure(status: str) -> str:
    """The status of a letter that is captured again: what was over is new once more."""
    return "new" if status in OVER else status


def after_refailure(redrive_count: int) -> str:
    """The status of a letter whose redrive failed again, the `redrive_count`th time in a row."""
    return "quarantined" if redrive_count >= QUARANTINE_AFTER else "refailed"


# -- what nobody should read ---------------------------------------------------------------------


def without_secrets(headers: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The headers with those that carry credentials masked, and the paths of what was masked."""
    masked = {
        name: REDACTED if name.lower() in SECRET_HEADERS else value
        for name, value in headers.items()
    }
    return masked, [
        f"headers.{name}"
        for name, value in headers.items()
        if name.lower() in SECRET_HEADERS and value != REDACTED
    ]


def masked(value: Any, path: Sequence[str]) -> Any:
    """`value` with what is at `path` (member names, indexes, or * for every one) masked."""
    if not path:
        return REDACTED
    first, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {
            name: masked(inner, rest) if first in (name, "*") else inner
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [
            masked(inner, rest) if first in (str(index), "*") else inner
            for index, inner in enumerate(value)
        ]
    return value
