"""What an answer must have in it, beyond its status: a server may say 200 and mean an error."""

import json
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from apps.health.probes.outcomes import Refused
from apps.health.targets import Target, option

MOST_BYTES = 256 * 1024  # of an answer; beyond them nothing is read


@dataclass(frozen=True)
class Conditions:
    """What is asked of a body; nothing by default."""

    contains: str
    lacks: str
    path: str
    equals: Any

    @classmethod
    def of(cls, target: Target) -> "Conditions":
        names = ("body_contains", "body_lacks", "json_path", "json_equals")
        return cls(*(option(target, name) for name in names))

    def __bool__(self) -> bool:
        return bool(self.contains or self.lacks or self.path)

    def check(self, body: bytes, *, is_whole: bool) -> None:
        """Raises Refused, without a word of what the server said, if one is not met."""
        text = body.decode(errors="replace")
        if self.lacks and self.lacks in text:
            raise Refused(_("its answer has “%s” in it") % self.lacks)
        if self.contains and self.contains not in text:
            raise Refused(_("its answer has no “%s” in it") % self.contains)
        if self.path or self.lacks:
            self._check_whole(is_whole)
        if self.path:
            self._check_json(text)

    @staticmethod
    def _check_whole(is_whole: bool) -> None:
        if not is_whole:
            raise Refused(_("its answer is longer than the %d KiB read") % (MOST_BYTES // 1024))

    def _check_json(self, text: str) -> None:
        try:
            found = _at(json.loads(text), self.path)
        except (ValueError, RecursionError) as error:
            raise Refused(_("its answer is not JSON")) from error
        except LookupError as error:
            raise Refused(_("its answer has nothing at %s") % self.path) from error
        if self.equals is not None and not _is_same(found, self.equals):
            wanted = json.dumps(self.equals, ensure_ascii=False)
            words = {"path": self.path, "wanted": wanted}
            raise Refused(_("its answer has something else than %(wanted)s at %(path)s") % words)


def _at(value: Any, path: str) -> Any:
    """What is in `value` at names and numbers with dots between; raises LookupError."""
    for name in path.split("."):
        if isinstance(value, list) and name.isdecimal():
            value = value[int(name[:9])]
        elif isinstance(value, dict):
            value = value[name]
        else:
            raise LookupError(name)
    return value


def _is_same(found: Any, wanted: Any) -> bool:
    """Equal, and true is not 1."""
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)
