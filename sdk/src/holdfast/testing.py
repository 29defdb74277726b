"""Holdfast in users' tests: the real patterns on a clock of your own, no server, no patching.

hf = LocalHoldfast()
hf.set_policy("payments-api", breaker={"consecutive_failures": 2}, retry={"enabled": False})
with hf.failing("payments-api"):
    hf.try_call("payments-api", charge)
hf.engage("read-only", kind="read_only", lease_seconds=60)
hf.fake_clock.advance(61)
assert not hf.read_only
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from holdfast import spec
from holdfast._document import Received, parse
from holdfast._letter import Capture, Letter, Limits, Unserialisable, decode_body, encode
from holdfast._redrive import call_handler
from holdfast._session import Session
from holdfast._settings import Settings, Timing
from holdfast._stage import Answering, Error, Failing, Slow, Stage
from holdfast.client import Holdfast
from holdfast.clock import Clock
from holdfast.errors import Rejected

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class FakeClock(Clock):
    """A clock that moves only when told to, or when guarded code sleeps between attempts.

    Attributes:
        slept: Every wait between attempts, in order, in seconds.
    """

    def __init__(self, now: float = 1_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._wall_offset = START - now
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """The time it was moved to."""
        return self._now

    def wall(self) -> float:
        """The same on the calendar; see `jump_wall`."""
        return self._now + self._wall_offset

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now += seconds

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock, as an administrator or NTP would; durations must not care."""
        self._wall_offset += seconds

    def sleep(self, seconds: float) -> None:
        """Pass that time at once."""
        self.slept.append(seconds)
        self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Pass that time at once, letting other tasks run."""
        self.sleep(seconds)
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of a letter that was tried again: resolved, refailed or released."""

    outcome: str
    error: Exception | None = None


class _Session(Session):
    """Starts nothing, and keeps letters where a test looks at them."""

    def __init__(
        self, settings: Settings, engine: Stage, dead_letters: list[dict[str, Any]]
    ) -> None:
        super().__init__(settings, Timing(), engine)
        engine.on_use = None
        self._dead_letters = dead_letters

    def ensure_started(self) -> None:
        """There is nothing to start."""

    def capture(self, capture: Capture, limits: Limits) -> bool:
        """Keep a letter as Holdfast would get it."""
        try:
            self._dead_letters.append(msgspec.json.decode(encode(capture, limits)))
        except Unserialisable as problem:
            self.say_uncaptured(capture.handler, str(problem))
            return False
        return True


class LocalHoldfast(Holdfast):
    """A whole Holdfast in memory: what an operator does to a real one, done by method calls.

    Everything else is the real thing, and may be handed to whatever takes a `Holdfast`. It never
    starts a thread nor opens a connection. Values are checked as those of a server are: what
    would be refused raises `ValueError`.

    Attributes:
        fake_clock: Moves when told to.
        dead_letters: What was captured, oldest first, as Holdfast would get it: redacted.
    """

    def __init__(self, clock: FakeClock | None = None, *, rand: float = 0.5) -> None:
        """`rand` is the answer of every roll of the dice: 0.5 makes the jitter of opening 0."""
        super().__init__()
        self.close()  # before its first use: from now on nothing can start
        self.fake_clock = clock or FakeClock()
        self._engine = self._stage = Stage(
            self.fake_clock,
            defaults={},
            instance="test",
            rand=lambda: rand,
            spawn=lambda work: work(),
        )
        self.dead_letters: list[dict[str, Any]] = []
        self._session = _Session(self._session.settings, self._stage, self.dead_letters)
        self._revision = 0
        self._flags: dict[str, dict[str, Any]] = {}
        self._policies: dict[str, dict[str, Any]] = {}

    def failing(
        self, dependency: str, error: Error = ConnectionError, *, times: int | None = None
    ) -> AbstractContextManager[None]:
        """For a while, let every attempt raise in place of calling; or only the next `times`."""
        return self._stage.played(dependency, Failing(error, times))

    def answering(self, dependency: str, value: Any) -> AbstractContextManager[None]:
        """For a while, let every attempt answer a value in place of calling."""
        return self._stage.played(dependency, Answering(value))

    def slow(self, dependency: str, seconds: float) -> AbstractContextManager[None]:
        """For a while, let every attempt take so long on the fake clock before it calls.

        One that may not take so long ends with `CallTimeout` when its time is up, as it would
        with a client that keeps to `deadline.remaining()`.
        """
        return self._stage.played(dependency, Slow(dependency, self.fake_clock, seconds))

    @contextmanager
    def rejecting(self, dependency: str, *, reason: str = "test") -> Iterator[None]:
        """For a while, let the breaker reject every call, as an operator's override does."""
        before = self._policies.get(dependency, {}).get("override")
        self.override(dependency, "force_open", reason=reason)
        try:
            yield
        finally:
            self._set_override(dependency, before)

    def reset(self) -> None:
        """Begin anew, for the next test: no policies, flags, states, counts and dead letters.

        Guarded functions, registered functions and the clock's time stay.
        """
        self._flags.clear()
        self._policies.clear()
        self.dead_letters.clear()
        self.fake_clock.slept.clear()
        self._stage.clear()
        self._engine.set_stale(False)
        self._publish()

    def set_policy(self, dependency: str, **patterns: Mapping[str, Any]) -> None:
        """Set whole patterns of a dependency, the others stay: `breaker={"open_seconds": 5}`."""
        for pattern, values in patterns.items():
            _check(spec.clean_pattern(pattern, values)[1])
        parts = self._policies.get(dependency, {})
        self._policies[dependency] = parts | {key: dict(value) for key, value in patterns.items()}
        self._publish()

    def override(
        self,
        dependency: str,
        mode: str | None,
        *,
        reason: str = "test",
        lease_seconds: float | None = None,
    ) -> None:
        """Override a breaker: force_open, force_closed, disabled, metrics_only; None releases."""
        override = None
        if mode is not None:
            expires_at = self._instant(lease_seconds)
            override = {"mode": mode, "reason": reason, "expires_at": expires_at}
            _check(spec.clean_override(override)[1])
        self._set_override(dependency, override)

    def engage(
        self,
        flag: str,
        *,
        kind: str = "custom",
        value: Any = None,
        percentage: float = 100.0,
        dependencies: list[str] | None = None,
        on_stale: str = "hold",
        reason: str = "test",
        lease_seconds: float | None = None,
    ) -> None:
        """Switch a flag on, for `lease_seconds` or until `end`."""
        entry = {
            "kind": kind,
            "scope": "environment",
            "enabled": True,
            "value": value,
            "percentage": percentage,
            "dependencies": dependencies,
            "on_stale": on_stale,
            "reason": reason,
            "set_by": "test",
            "expires_at": self._instant(lease_seconds),
        }
        _check(spec.clean_flag(entry, flag)[1])
        self._flags[flag] = entry
        self._publish()

    def set_stale(self, stale: bool = True) -> None:
        """Let Holdfast be silent for too long, or be heard again."""
        self._engine.set_stale(stale)

    def collect(self) -> dict[str, Any]:
        """What the next report would say: counts since the last time, states, events."""
        return self._engine.collect()

    def end(self, flag: str) -> None:
        """Switch a flag off; no harm if it is not on."""
        self._flags.pop(flag, None)
        self._publish()

    def redrive(self, item: Mapping[str, Any], *, redrive_count: int = 0) -> Redriven:
        """Try one of `dead_letters` again with the handler registered for it.

        Raises:
            KeyError: none is.
        """
        handler = self._session.handlers.named(item["handler"])
        if handler is None:
            raise KeyError(f"no handler is registered for {item['handler']}")
        letter = Letter(
            id=1,
            handler=item["handler"],
            body=decode_body(item["body"]),
            content_type=item["body"]["content_type"],
            idempotency_key=item["idempotency_key"],
            headers=item["headers"],
            redrive_count=redrive_count,
        )
        try:
            call_handler(handler, letter, _run_async)
        except Rejected as error:
            return Redriven("released", error)
        except Exception as error:  # noqa: BLE001 - the outcome
            return Redriven("refailed", error)
        return Redriven("resolved")

    def _set_override(self, dependency: str, override: dict[str, Any] | None) -> None:
        parts = dict(self._policies.get(dependency, {}))
        parts.pop("override", None)
        self._policies[dependency] = parts if override is None else parts | {"override": override}
        self._publish()

    def _instant(self, lease_seconds: float | None) -> str | None:
        if lease_seconds is None:
            return None
        start = datetime.fromtimestamp(self.fake_clock.wall(), UTC)
        return (start + timedelta(seconds=lease_seconds)).isoformat()

    def _publish(self) -> None:
        self._revision += 1
        body = {
            "meta": {"schema": 1, "epoch": "test", "revision": self._revision},
            "flags": self._flags,
            "dependencies": self._policies,
        }
        document = parse(body)
        clock = self.fake_clock
        received = Received(server_time=clock.wall(), monotonic=clock.monotonic())
        self._engine.apply(document, received)


def _run_async(work: Coroutine[Any, Any, Any], context: contextvars.Context) -> None:
    with asyncio.Runner() as runner:
        runner.run(work, context=context)


def _check(problems: tuple[spec.Problem, ...]) -> None:
    if problems:
        raise ValueError(f"{problems[0].path}: {problems[0].detail}")


__all__ = ["FakeClock", "LocalHoldfast", "Redriven"]
