"""A service's document: the pure merge of the pieces of its environment that concern it."""

import gzip
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from apps.publication.rules import FragmentLike, concerning, uses_of
from holdfast.spec import merge_flags, merge_overrides

SCHEMA = 1
WORTH_COMPRESSING = 1_024  # bytes: below that, gzip saves no packet


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose documents these are: what every document of an environment says of itself."""

    epoch: str
    environment: str  # slug
    since: str  # published_at of a document nothing was published for yet
    stale_after_seconds: int


@dataclass(frozen=True)
class Document:
    """A service's document, ready to send. Two of one epoch and revision are equal.

    Attributes:
        flags, dependencies: The two parts that change, as the JSON they have in `body`.
        body: The whole document: canonical JSON, members sorted, no spaces.
        etag: `"<epoch>.<revision>.<first 16 hex of SHA-256 of the body>"`, with its quotes.
    """

    epoch: str
    revision: int
    published_at: str
    flags: bytes
    dependencies: bytes
    body: bytes
    etag: str

    @property
    def event_id(self) -> str:
        """What a stream calls this state: `<epoch>:<revision>`."""
        return f"{self.epoch}:{self.revision}"

    @cached_property
    def compressed(self) -> bytes | None:
        """The body in gzip, made once; None where that would save nothing."""
        if len(self.body) < WORTH_COMPRESSING:
            return None
        return gzip.compress(self.body, compresslevel=6, mtime=0)


def merge(
    fragments: Iterable[FragmentLike], service: str, origin: Origin, *, published_at: dict[int, str]
) -> Document:
    """The document of `service`, from the current fragments of its environment.

    `published_at` tells when each revision among the fragments was published.
    """
    held = list(fragments)
    uses = uses_of(held, service)
    mine = concerning(held, service, uses)
    revision = max((fragment.revision for fragment in mine), default=0)
    present = [fragment for fragment in mine if fragment.body is not None]
    parts = {
        "flags": canonical(_flags(present)),
        "dependencies": canonical(_dependencies(present, uses)),
    }
    at = published_at.get(revision, origin.since)
    meta = {
        "schema": SCHEMA,
        "epoch": origin.epoch,
        "revision": revision,
        "environment": origin.environment,
        "service": service,
        "published_at": at,
        "stale_after_seconds": origin.stale_after_seconds,
    }
    body = canonical({"meta": meta} | {name: msgspec.Raw(part) for name, part in parts.items()})
    digest = hashlib.sha256(body).hexdigest()[:16]
    etag = f'"{origin.epoch}.{revision}.{digest}"'
    return Document(origin.epoch, revision, at, **parts, body=body, etag=etag)


def canonical(value: Any) -> bytes:
    """JSON with sorted members and no spaces: equal values give equal bytes."""
    return msgspec.json.encode(value, order="sorted")


def _flags(fragments: list[FragmentLike]) -> dict[str, Any]:
    """The flags by key; one key at both levels becomes one entry."""
    levels: dict[str, list[Any]] = {}
    for fragment in _least_specific_first(fragments, "flag"):
        levels.setdefault(fragment.name, []).append(fragment.body)
    return {key: merge_flags(entries) for key, entries in levels.items()}


def _dependencies(fragments: list[FragmentLike], uses: frozenset[str]) -> dict[str, Any]:
    """Per dependency what is set at any level, and nothing that is not: the SDK knows defaults."""
    settings = _least_specific_first(fragments, "setting")
    overrides = _least_specific_first(fragments, "override")
    named = {fragment.dependency for fragment in settings + overrides} - {""}
    return {name: _dependency(name, settings, overrides) for name in uses | named}


def _dependency(
    name: str, settings: list[FragmentLike], overrides: list[FragmentLike]
) -> dict[str, dict[str, Any]]:
    entry: dict[str, dict[str, Any]] = {}
    for fragment in settings:
        if fragment.dependency in ("", name):
            # Keys join; a list or a map is one value and replaces the less specific one whole.
            entry[fragment.name] = entry.get(fragment.name, {}) | fragment.body
    levels = [fragment.body for fragment in overrides if fragment.dependency == name]
    if levels:
        entry["override"] = merge_overrides(levels)
    return entry


def _least_specific_first(fragments: list[FragmentLike], part: str) -> list[FragmentLike]:
    """Environment, dependency, then service: later ones win."""
    chosen = [fragment for fragment in fragments if fragment.part == part]
    return sorted(chosen, key=lambda fragment: (fragment.service != "", fragment.dependency != ""))
