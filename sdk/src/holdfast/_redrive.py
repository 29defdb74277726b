"""Trying dead letters again: claimed one at a time, run here, and the outcome confirmed for sure.

An outcome is on disk before it is sent, and nothing is claimed while one still waits to be told:
so a process never runs a letter again that it has run, and a killed one loses no outcome it had.
Only a death between the handler's last step and that write lets a letter come twice.
"""

import asyncio
import contextlib
import contextvars
import inspect
import logging
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec

from holdfast._letter import JSON, OMITTED, Letter, clean, decode_body, describe
from holdfast._letters import Owner, spool_of
from holdfast._outbox import Outbox
from holdfast._pace import Backoff, retry_after
from holdfast._poll import REFUSALS
from holdfast._scope import running
from holdfast._settings import Settings, Timing
from holdfast._transport import Answer, Transport, TransportFailed
from holdfast._worker import Worker
from holdfast.clock import Clock
from holdfast.errors import Rejected

log = logging.getLogger("holdfast")

Handler = Callable[[Letter], Any]

_MOST_HANDLERS = 200  # of one claim
_LONGEST_PAUSE_SECONDS = 60.0
_PAUSE_SECONDS = 5.0  # when a handler was rejected and nobody can tell until when
_SOONEST_EXTENSION_SECONDS = 1.0


class Handlers:
    """Functions that try letters again, by name; the client's, whatever process it is in."""

    def __init__(self) -> None:
        self._by_name: dict[str, Handler] = {}

    def register(self, name: str, function: Handler) -> None:
        """Make a function the handler of that name, in place of an earlier one.

        Raises:
            ValueError: a name that no letter can have.
            TypeError: it cannot be called.
        """
        if not 0 < len(name) <= 200:
            raise ValueError("the handler's name must have 1 to 200 characters")
        if not callable(function):
            raise TypeError("a handler must be callable")
        self._by_name[name] = function

    def forget(self) -> None:
        """Take no more letters."""
        self._by_name.clear()

    def named(self, name: str) -> Handler | None:
        return self._by_name.get(name)

    def some(self, turn: int) -> list[str]:
        """Names to ask for; if there are too many for one claim, others in every turn."""
        names = sorted(self._by_name)
        turns = max(1, -(-len(names) // _MOST_HANDLERS))
        start = turn % turns * _MOST_HANDLERS
        return names[start : start + _MOST_HANDLERS]

    def __bool__(self) -> bool:
        return bool(self._by_name)


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A letter this process has claimed."""

    claim: str
    letter: Letter | None
    id: int
    problem: str = ""


class Redriver:
    """Claim letters for the registered handlers, one after the other, as long as there are any."""

    def __init__(
        self,
        settings: Settings,
        handlers: Handlers,
        transport: Transport,
        owner: Owner,
        clock: Clock,
        timing: Timing,
    ) -> None:
        self._handlers = handlers
        self._transport = transport
        self._clock = clock
        self._timing = timing
        self._backoff = Backoff(timing.backoff_seconds, timing.backoff_max_seconds)
        self._lease = Lease(transport, clock, timing)
        self._runner: asyncio.Runner | None = None
        self._turn = 0
        self._not_before = float("-inf")
        self._lock = threading.Lock()
        self._is_closing = False
        self.trouble: str | None = None
        self.counts = {"resolved": 0, "refailed": 0, "released": 0}
        self.outbox = Outbox(
            "redrive outcomes",
            spool_of(settings, "outcomes", owner.label),
            transport.send_outcomes,
            _settled,
            _refused,
            owner.may_adopt,
            clock,
            timing,
        )
        self._claiming = Worker("holdfast-redrive", self.step)
        self._extending = Worker("holdfast-lease", self._lease.step)

    def start(self) -> None:
        """Begin to claim, if there is a handler; safe to call again when there is one.

        Raises:
            RuntimeError: the system has no thread left.
        """
        with self._lock:
            if self._handlers and not self._is_closing:
                self._extending.start()
                self._claiming.start()
        self._claiming.wake()

    def begin_close(self) -> None:
        """Claim no more; a handler that runs may finish."""
        self._is_closing = True
        self._claiming.wake()

    def end_close(self, seconds: float) -> None:
        """Wait for a handler that runs, at most `seconds`."""
        if self._lease.is_held:
            self._claiming.join(seconds)
        self._extending.stop()
        self.outbox.close()

    def abandon(self) -> None:
        """In a child after a fork: leave everything to the parent."""
        self.outbox.close(in_child=True)

    def stats(self) -> dict[str, Any]:
        """How it is doing, for people and probes."""
        return {**self.counts, "outcomes": self.outbox.stats(), "trouble": self.trouble}

    def step(self) -> float:
        """Tell what is to be told, claim and run one letter; returns the seconds until the next."""
        until_told = self.outbox.step()
        if not self.outbox.flush() and not self._is_closing:
            return max(self.outbox.step(), 0.01)
        if self._is_closing:
            return self._end()
        if not self._handlers:
            return until_told
        left = self._not_before - self._clock.monotonic()
        if left > 0:
            return left
        self._not_before = self._clock.monotonic() + self._claim()
        return 0.0

    def _end(self) -> float:
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        self._claiming.stop()
        return 0.0

    # -- claiming --------------------------------------------------------------------------------

    def _claim(self) -> float:
        """Claim a letter and run it; returns the seconds until the next claim."""
        asked_at = self._clock.monotonic()
        self._turn += 1
        try:
            answer = self._transport.claim(
                self._handlers.some(self._turn),
                lease_seconds=self._timing.lease_seconds,
                wait_seconds=self._timing.claim_wait_seconds,
            )
        except TransportFailed as failure:
            return self._failed(failure.kind)
        if answer.status in REFUSALS:
            self._note(answer.said)
            return self._timing.refused_seconds
        works = _works(answer) if answer.status == 200 else None
        if works is None:
            return self._failed(str(answer.status), at_least=retry_after(answer.headers))
        self._backoff.reset()
        self._note(None)
        if not works:
            waited = self._clock.monotonic() - asked_at
            return max(0.0, self._timing.claim_gap_seconds * random.uniform(0.8, 1.2) - waited)
        return max(self._do(work) for work in works)

    def _failed(self, kind: str, *, at_least: float = 0.0) -> float:
        self._note(kind)
        return self._backoff.next(at_least=at_least)

    def _note(self, trouble: str | None) -> None:
        if trouble == self.trouble or self._is_closing:
            return
        self.trouble = trouble
        if trouble is None:
            log.info("holdfast: letters can be claimed again")
        else:
            log.warning("holdfast: no letters can be claimed (%s)", trouble)

    # -- running ---------------------------------------------------------------------------------

    def _do(self, work: Work) -> float:
        """Run a letter and tell its outcome; returns seconds to wait before the next."""
        if self._is_closing:
            self._tell(work, "released")
            return 0.0
        if work.letter is None:
            self._tell(work, "refailed", error={"message": work.problem})
            return 0.0
        handler = self._handlers.named(work.letter.handler)
        if handler is None:
            self._tell(work, "released")
            return 0.0
        return self._run(work, work.letter, handler)

    def _run(self, work: Work, letter: Letter, handler: Handler) -> float:
        started = time.monotonic()
        self._lease.take(work)
        self._extending.wake()
        try:
            call_handler(handler, letter, self._run_async)
        except Rejected as refusal:  # not tried at all: its dependency is not ready
            self._tell(work, "released", error=describe(refusal, ""))
            after = _PAUSE_SECONDS if refusal.retry_after is None else refusal.retry_after
            return min(after, _LONGEST_PAUSE_SECONDS)
        except BaseException as error:  # noqa: BLE001 - the letter's failure, whatever it is
            log.warning("holdfast: %s failed again for letter %d", letter.handler, letter.id)
            told = describe(error, "")
            self._tell(work, "refailed", error=told, seconds=time.monotonic() - started)
        else:
            self._tell(work, "resolved", seconds=time.monotonic() - started)
        return 0.0

    def _run_async(self, work: Coroutine[Any, Any, Any], context: contextvars.Context) -> None:
        """One event loop for all letters: what a handler keeps open stays usable."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        self._runner.run(work, context=context)

    def _tell(
        self,
        work: Work,
        outcome: str,
        *,
        error: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> None:
        told: dict[str, Any] = {"id": work.id, "claim": work.claim, "outcome": outcome}
        if error is not None:
            told["error"] = dict(error)
        if seconds is not None:
            told["duration_seconds"] = round(seconds, 3)
        self.counts[outcome] += 1
        self.outbox.put(msgspec.json.encode(told))
        self._lease.give_back()  # from now on the outcome speaks for it
        self.outbox.flush()


def call_handler(
    handler: Handler,
    letter: Letter,
    run_async: Callable[[Coroutine[Any, Any, Any], contextvars.Context], None],
) -> None:
    """Call a handler in a context that tells guards inside which letter is being tried again."""
    context = contextvars.copy_context()
    context.run(running.set, letter)
    result = context.run(handler, letter)
    if inspect.isawaitable(result):
        run_async(_awaited(result), context)


class Lease:
    """Ask for more time while a letter is being run; in a thread of its own."""

    def __init__(self, transport: Transport, clock: Clock, timing: Timing) -> None:
        self._transport = transport
        self._clock = clock
        self._timing = timing
        self._lock = threading.Lock()
        self._work: Work | None = None
        self._due_at = float("inf")

    @property
    def is_held(self) -> bool:
        """Whether a letter is being run."""
        return self._work is not None

    def take(self, work: Work) -> None:
        with self._lock:
            self._work = work
            self._due_at = self._clock.monotonic() + self._gap

    def give_back(self) -> None:
        with self._lock:
            self._work = None

    def step(self) -> float:
        """Extend if it is time to; returns the seconds until it is."""
        with self._lock:
            work = self._work
        if work is None:
            return float("inf")
        if self._due_at <= self._clock.monotonic():
            self._due_at = self._clock.monotonic() + self._extend(work)
        return max(0.0, self._due_at - self._clock.monotonic())

    @property
    def _gap(self) -> float:
        return self._timing.lease_seconds / 3

    def _extend(self, work: Work) -> float:
        told = {"id": work.id, "claim": work.claim, "outcome": "extend"}
        try:
            answer = self._transport.send_outcomes(msgspec.json.encode(told))
        except TransportFailed:
            return _SOONEST_EXTENSION_SECONDS
        if answer.status != 200:
            return max(_SOONEST_EXTENSION_SECONDS, retry_after(answer.headers))
        if b'"accepted"' not in answer.body:
            log.warning("holdfast: the lease of letter %d ended while it ran", work.id)
            return float("inf")
        return self._gap


async def _awaited(result: Any) -> Any:
    return await result


def _settled(record: bytes, verdict: Any) -> None:
    status = verdict.get("status") if isinstance(verdict, dict) else None
    if status in {"late", "unknown"}:
        told = msgspec.json.decode(record)
        log.warning(
            "holdfast: letter %s was %s, which came %s", told["id"], told["outcome"], status
        )


def _refused(record: bytes, why: str) -> None:
    told = msgspec.json.decode(record)
    log.error("holdfast: outcome of letter %s was refused (%s)", told.get("id"), why)


def _works(answer: Answer) -> list[Work] | None:
    """What was claimed; None if the answer is none of ours."""
    with contextlib.suppress(msgspec.MsgspecError, RecursionError, KeyError, TypeError, ValueError):
        return [_work(item) for item in msgspec.json.decode(answer.body)["items"]]
    return None


def _work(item: Mapping[str, Any]) -> Work:
    key, claim = int(item["id"]), str(item["claim"])
    headers = {str(name): str(text) for name, text in (item.get("headers") or {}).items()}
    if OMITTED in headers:
        problem = f"its body was not kept: {headers[OMITTED]}"
        return Work(id=key, claim=claim, letter=None, problem=problem)
    body = item.get("body") or {}
    try:
        content = decode_body(body)
    except (ValueError, RecursionError) as error:  # MsgspecError and UnicodeError among them
        problem = clean(f"its body cannot be read: {error}")
        return Work(id=key, claim=claim, letter=None, problem=problem)
    letter = Letter(
        id=key,
        handler=str(item["handler"]),
        body=content,
        content_type=str(body.get("content_type") or JSON),
        idempotency_key=str(item.get("idempotency_key") or ""),
        headers=headers,
        redrive_count=int(item.get("redrive_count") or 0),
    )
    return Work(id=key, claim=claim, letter=letter)
