"""A policy document, checked entry by entry: one bad entry never costs the good ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from holdfast.errors import BadDocument
from holdfast.spec import PATTERNS, Problem, clean_flag, clean_override, clean_pattern
from holdfast.spec.cleaning import drop_unknown

LARGEST_DOCUMENT = 4 * 1_048_576
SCHEMA = 1
STALE_AFTER_SECONDS = 300.0


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """When a document arrived, on both sides' clocks.

    Attributes:
        server_time: The server's clock at receipt, seconds since 1970 UTC.
        monotonic: This process's monotonic clock at the same moment.
        is_from_disk: Whether `server_time` was worked out from a file by the wall clock.
    """

    server_time: float
    monotonic: float
    is_from_disk: bool = False

    def deadline(self, expires_at: float) -> float:
        """The instant on our monotonic clock at which a lease ends."""
        return self.monotonic + (expires_at - self.server_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The usable content of one document.

    Attributes:
        flags: Flag entries by key, complete.
        dependencies: By name: pattern → settings that are set, and `override` if there is one.
        refused: Entries that were not usable, as reports send them.
        body: What was parsed, unchanged.
    """

    epoch: str
    revision: int
    environment: str = ""
    service: str = ""
    published_at: str | None = None
    stale_after_seconds: float = STALE_AFTER_SECONDS
    flags: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    dependencies: Mapping[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    refused: tuple[dict[str, Any], ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse(body: bytes | Mapping[str, Any], previous: Document | None = None) -> Document:
    """The document in a response body, or in one that is decoded already.

    An entry with an unknown enum value or a value out of bounds is refused alone and keeps what
    `previous` had in its place. Members we do not know are ignored.

    Raises:
        BadDocument: the envelope is unusable, so nothing of it can be.
    """
    whole = _decode(body) if isinstance(body, bytes | bytearray | memoryview) else body
    meta = _envelope(whole)
    reader = _Reader(meta["revision"], previous)
    return Document(
        epoch=meta["epoch"],
        revision=meta["revision"],
        environment=_text(meta.get("environment")),
        service=_text(meta.get("service")),
        published_at=_text(meta.get("published_at")) or None,
        stale_after_seconds=_stale_after(meta.get("stale_after_seconds")),
        flags=dict(reader.flags(whole["flags"])),
        dependencies=dict(reader.dependencies(whole["dependencies"])),
        refused=tuple(reader.refused),
        body=whole,
    )


def _decode(body: bytes | bytearray | memoryview) -> Any:
    if len(body) > LARGEST_DOCUMENT:
        raise BadDocument("too_large", f"a document has at most {LARGEST_DOCUMENT} bytes")
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise BadDocument("bad_json", f"not JSON ({type(error).__name__})") from None


def _envelope(whole: Any) -> dict[str, Any]:
    parts = [whole.get(key) for key in ("meta", "flags", "dependencies")] if _is(whole) else []
    if not parts or not all(_is(part) for part in parts):
        raise BadDocument("bad_envelope", "meta, flags and dependencies must be objects")
    meta: dict[str, Any] = parts[0]
    if meta.get("schema", SCHEMA) != SCHEMA:
        raise BadDocument("unsupported_schema", f"this SDK reads schema {SCHEMA}")
    if not (isinstance(meta.get("epoch"), str) and meta["epoch"]):
        raise BadDocument("bad_envelope", "meta.epoch must be text")
    if type(meta.get("revision")) is not int or not 0 <= meta["revision"] < 2**53:
        raise BadDocument("bad_envelope", "meta.revision must be a whole number, 0 or more")
    return meta


def _is(value: object) -> bool:
    return isinstance(value, Mapping)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _stale_after(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
        return float(value)
    return STALE_AFTER_SECONDS


class _Reader:
    """Goes through the entries and remembers which it refused."""

    def __init__(self, revision: int, previous: Document | None) -> None:
        self.refused: list[dict[str, Any]] = []
        self._revision = revision
        self._old_flags = previous.flags if previous else {}
        self._old_dependencies = previous.dependencies if previous else {}

    def flags(self, entries: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, entry in entries.items():
            path = f"flags.{key}"
            cleaned, problems = clean_flag(entry, path) if _is(entry) else _no_object(path)
            kept = self._old_flags.get(key) if self._refuse(problems) else cleaned
            if kept is not None:
                yield key, kept

    def dependencies(
        self, entries: Mapping[str, Any]
    ) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
        for name, entry in entries.items():
            if _is(entry):
                yield name, dict(self._parts(name, entry))
            else:
                self._refuse(_no_object(f"dependencies.{name}")[1])
                if name in self._old_dependencies:
                    yield name, self._old_dependencies[name]

    def _parts(self, name: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        old = self._old_dependencies.get(name, {})
        for part, values in entry.items():
            if (part not in PATTERNS and part != "override") or values is None:
                continue
            cleaned, problems = _part(part, values)
            located = tuple(
                Problem(f"dependencies.{name}.{each.path}", each.code, each.detail)
                for each in problems
            )
            kept = old.get(part) if self._refuse(located) else cleaned
            if kept is not None:
                yield part, kept

    def _refuse(self, problems: tuple[Problem, ...]) -> bool:
        self.refused.extend(
            {
                "path": problem.path,
                "revision": self._revision,
                "code": problem.code,
                "detail": problem.detail,
            }
            for problem in problems
        )
        return bool(problems)


def _part(part: str, values: Any) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    if not _is(values):
        return _no_object(part)
    if part == "override":
        return clean_override(values)
    return clean_pattern(part, drop_unknown(part, values))


def _no_object(path: str) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    return {}, (Problem(path, "wrong_type", "must be an object"),)
