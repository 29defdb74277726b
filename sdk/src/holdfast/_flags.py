"""Degradation flags as a service sees them, with leases that end by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holdfast._document import Received
from holdfast.spec import in_rollout
from holdfast.spec.flags import instant


class FlagState(msgspec.Struct, frozen=True, kw_only=True):
    """What a flag says right now, for one key.

    Attributes:
        enabled: Whether it is engaged: switched on, lease not over, key among the percentage.
        kind: read_only, fallback, feature_off or custom; None for a flag nobody defined.
        value: What the operator attached to it, engaged or not.
        remaining_seconds: Until its lease ends; None if it has no end or is not engaged.
    """

    key: str
    enabled: bool
    kind: str | None = None
    value: Any = None
    reason: str | None = None
    set_by: str | None = None
    remaining_seconds: float | None = None


class Lease(msgspec.Struct, frozen=True):
    """How long an entry of a document holds.

    Attributes:
        deadline: Monotonic end; None for no end.
        is_from_disk: Whether the wall clock had a say in it. Such an end is a guess, and the first
            word of the server replaces it.
    """

    deadline: float | None
    is_from_disk: bool = False

    def renewed(self, newer: Lease) -> Lease:
        """The lease of the same entry, received again: it never grows but over a guess."""
        if self.is_from_disk or self.deadline is None or newer.deadline is None:
            return newer
        return self if self.deadline < newer.deadline else newer


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """One flag of the document, its lease turned into a deadline on the monotonic clock."""

    key: str
    entry: Mapping[str, Any]
    lease: Lease

    @property
    def deadline(self) -> float | None:
        """Monotonic end of its lease; None if it has none."""
        return self.lease.deadline

    def is_engaged(self, now: float, *, stale: bool) -> bool:
        """Whether it holds at a monotonic instant, percentage left aside."""
        if not self.entry["enabled"] or (self.deadline is not None and now >= self.deadline):
            return False
        return not (stale and self.entry["on_stale"] == "revert")

    def is_for(self, dependency: str) -> bool:
        """Whether it is a fallback flag that covers this dependency."""
        if self.entry["kind"] != "fallback":
            return False
        names = self.entry["dependencies"]
        return names is None or dependency in names

    def state(self, key: str, now: float, *, stale: bool) -> FlagState:
        """What it says for one key."""
        engaged = self.is_engaged(now, stale=stale)
        if engaged and self.entry["kind"] == "custom":
            engaged = in_rollout(self.key, key, self.entry["percentage"])
        leased = engaged and self.deadline is not None
        return FlagState(
            key=self.key,
            enabled=engaged,
            kind=self.entry["kind"],
            value=self.entry["value"],
            reason=self.entry["reason"],
            set_by=self.entry["set_by"],
            remaining_seconds=self.deadline - now if leased and self.deadline else None,
        )


class Flags:
    """All flags in force, replaced as a whole with every document.

    Reads take no lock: they see either the old set or the new one.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._by_key: Mapping[str, Flag] = {}
        self._read_only: tuple[Flag, ...] = ()
        self._over: frozenset[str] = frozenset()
        self.stale = False

    def replace(self, entries: Mapping[str, Mapping[str, Any]], received: Received) -> None:
        """Take over the flags of a document. A lease that did not change never grows,
        unless what it was came from the disk."""
        flags = {key: self._flag(key, entry, received) for key, entry in entries.items()}
        self._by_key = flags
        self._read_only = tuple(
            flag for flag in flags.values() if flag.entry["kind"] == "read_only"
        )
        now = self._monotonic()
        self._over = frozenset(
            key for key in self._over if key in flags and self._is_over(key, now)
        )

    def state(self, key: str, subject: str) -> FlagState:
        """What a flag says for a subject, such as a user's id; an unknown flag is not engaged."""
        flag = self._by_key.get(key)
        if flag is None:
            return FlagState(key=key, enabled=False)
        return flag.state(subject, self._monotonic(), stale=self.stale)

    def read_only(self) -> FlagState | None:
        """The read-only flag in force that lasts longest, or None."""
        if not self._read_only:
            return None
        now = self._monotonic()
        engaged = [flag for flag in self._read_only if flag.is_engaged(now, stale=self.stale)]
        if not engaged:
            return None
        longest = max(engaged, key=lambda flag: _lasting(flag.deadline))
        return longest.state("", now, stale=self.stale)

    def degrading(self, dependency: str) -> tuple[Flag, ...]:
        """Fallback flags that cover a dependency, engaged or not."""
        return tuple(flag for flag in self._by_key.values() if flag.is_for(dependency))

    def all(self) -> dict[str, FlagState]:
        """Every flag's state, without a subject."""
        now = self._monotonic()
        return {key: flag.state("", now, stale=self.stale) for key, flag in self._by_key.items()}

    def newly_over(self) -> list[str]:
        """Keys of switched-on flags whose lease ended since this was last asked."""
        now = self._monotonic()
        over = frozenset(key for key in self._by_key if self._is_over(key, now))
        new = sorted(over - self._over)
        self._over = over
        return new

    def _is_over(self, key: str, now: float) -> bool:
        flag = self._by_key[key]
        return bool(flag.entry["enabled"]) and flag.deadline is not None and now >= flag.deadline

    def _flag(self, key: str, entry: Mapping[str, Any], received: Received) -> Flag:
        lease, old = lease_of(entry, received), self._by_key.get(key)
        if old is not None and old.entry == entry:
            lease = old.lease.renewed(lease)
        return Flag(key=key, entry=entry, lease=lease)


def lease_of(entry: Mapping[str, Any], received: Received) -> Lease:
    """The lease an entry was received with."""
    if entry["expires_at"] is None:
        return Lease(None, received.is_from_disk)
    deadline = received.deadline(instant(entry["expires_at"]).timestamp())
    return Lease(deadline, received.is_from_disk)


def _lasting(deadline: float | None) -> float:
    return float("inf") if deadline is None else deadline
