"""All dependencies of one process, the policy in force, and what came of it.

The engine knows nothing of networks: documents are handed to it, reports are asked of it. No
call ever waits for either.
"""

from __future__ import annotations

import inspect
import os
import random
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

from holdfast import spec
from holdfast._dependency import Dependency, Shared
from holdfast._document import Document, Received
from holdfast._events import Events, Listener, log
from holdfast._explain import explain
from holdfast._failed import Serialize, Sink
from holdfast._flags import Flags, FlagState
from holdfast._guard import (
    Errors,
    attempt,
    attempt_async,
    guarded,
    options_of,
)
from holdfast._lane import run, run_async, turned_away
from holdfast._options import NO_OPTIONS, Options
from holdfast._outcome import Outcome
from holdfast._plan import Plan, Policy, compile_plan
from holdfast._recovery import in_background
from holdfast._stats import summary
from holdfast._timeout import Threads
from holdfast._views import DependencyView
from holdfast.clock import Clock

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")


class Engine:
    """Guards calls by the policy in force; follows every new one without losing state.

    Until the first document arrives, `defaults` are in force: sparse settings, pattern → setting
    → value, or None for those of the environment variables. Safe for threads and event loops.

    Attributes:
        on_use: Called before every guarded call and flag look-up while it is set.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        defaults: Policy | None = None,
        *,
        instance: str = "",
        rand: Callable[[], float] = random.random,
        spawn: Callable[[Callable[[], None]], None] = in_background,
    ) -> None:
        self.clock = clock or Clock()
        self.events = Events(self.clock)
        self.instance = instance
        self.on_use: Callable[[], None] | None = None
        self.document: Document | None = None
        self.received: Received | None = None
        self.defaults = _from_environment() if defaults is None else defaults
        self.flags = Flags(self.clock.monotonic)
        self._shared = Shared(
            clock=self.clock,
            events=self.events,
            threads=Threads(),
            rand=rand,
            functions={},
            spawn=spawn,
        )
        self._dependencies: dict[str, Dependency] = {}
        self._lock = threading.RLock()

    # -- for those who make calls --------------------------------------------------------------

    def guard(
        self,
        dependency: str,
        *,
        fallback: Callable[..., Any] | None = None,
        errors: Errors | None = None,
        dead_letter: str = "",
        serialize: Serialize | None = None,
        idempotency_key: Callable[..., str] | None = None,
    ) -> Callable[[F], F]:
        """Decorate a function, `def` or `async def`, that calls a dependency.

        Args:
            fallback: The function named "function" in the chain; gets the same arguments.
            errors: Error class → exception types or predicates of the author's own.
            dead_letter: Handler of the dead letters that calls become when they fail for good;
                when that is, says `dead_letter.when` of the policy. Without it, never.
            serialize: Makes the body of such a letter; gets the same arguments.
            idempotency_key: Makes the key that stays the same over redrives; likewise.

        Raises:
            TypeError: the function is a generator.
            ValueError: an unknown error class.
        """
        options = options_of(
            fallback,
            errors,
            dead_letter=dead_letter,
            serialize=serialize,
            idempotency_key=idempotency_key,
        )

        def decorate(function: F) -> F:
            wrapped: F = guarded(self, dependency, function, options)
            return wrapped

        return decorate

    def call(
        self, dependency: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Make one guarded call of an ordinary function."""
        return run(self.use(dependency), function, args, kwargs, NO_OPTIONS)  # type: ignore[no-any-return]  # R

    async def acall(
        self,
        dependency: str,
        function: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Make one guarded call of a coroutine function."""
        return await run_async(self.use(dependency), function, args, kwargs, NO_OPTIONS)  # type: ignore[no-any-return]  # R

    def try_call(
        self, dependency: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Outcome[R]:
        """Make one guarded call and get its value, rejection or error without a raise."""
        found = self.use(dependency)
        if found.breaker.refusing is not None:  # soon, so as to cost nothing in an incident
            refused = turned_away(found, NO_OPTIONS)
            if refused is not None:
                return refused
        return attempt(found, function, args, kwargs, NO_OPTIONS)

    async def try_acall(
        self,
        dependency: str,
        function: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Outcome[R]:
        """As `try_call`, for a coroutine function."""
        return await attempt_async(self.use(dependency), function, args, kwargs, NO_OPTIONS)

    def try_with(
        self, dependency: str, function: Any, options: Options, /, *args: Any, **kwargs: Any
    ) -> Outcome[Any]:
        """As `try_call`, with what an integration knows of the call."""
        return attempt(self.use(dependency), function, args, kwargs, options)

    async def try_with_async(
        self, dependency: str, function: Any, options: Options, /, *args: Any, **kwargs: Any
    ) -> Outcome[Any]:
        """As `try_with`, for a coroutine function."""
        return await attempt_async(self.use(dependency), function, args, kwargs, options)

    def flag(self, name: str, key: str | None = None) -> FlagState:
        """What a flag says, for a key such as a user's id; for this instance without one."""
        self._touch()
        return self.flags.state(name, self.instance if key is None else str(key))

    @property
    def read_only(self) -> bool:
        """Whether writing is switched off right now."""
        return self.read_only_flag() is not None

    def read_only_flag(self) -> FlagState | None:
        """The flag that switches writing off, with who, why and for how long; None if none."""
        self._touch()
        return self.flags.read_only()

    def register_fallback(self, name: str, function: Callable[..., Any]) -> None:
        """Make a function known to fallback chains by name."""
        self._shared.functions[name] = function

    def register_errors(self, errors: Errors, dependency: str | None = None) -> None:
        """Class errors of one dependency, or of all, before the built-in rules do.

        Raises:
            ValueError: an unknown error class.
        """
        name, rules = dependency or "", options_of(errors=errors).rules
        with self._lock:
            self._shared.rules[name] = self._shared.rules.get(name, ()) + rules

    def register_restart(self, dependency: str, function: Callable[[], object]) -> None:
        """Make known what restarts the service's connection to a dependency.

        Raises:
            TypeError: it is a coroutine function, which a thread of its own cannot run.
        """
        if inspect.iscoroutinefunction(function):
            raise TypeError("a restart runs in a thread: give it an ordinary function")
        self._shared.restarts[dependency] = function

    # -- for those who watch ---------------------------------------------------------------------

    def dependency(self, name: str) -> DependencyView:
        """One dependency, to look at."""
        return DependencyView(self.state_of(name))

    def explain(self, name: str) -> dict[str, Any]:
        """Each effective value of a dependency with where it came from."""
        return explain(self, self.state_of(name))

    def stats(self) -> dict[str, Any]:
        """Totals since the process started."""
        with self._lock:
            dependencies = dict(self._dependencies)
        totals = {name: each.totals() for name, each in dependencies.items()}
        return {
            "summary": summary(totals.values()),
            "dependencies": totals,
            "flags": {key: state.enabled for key, state in self.flags.all().items()},
            "read_only": self.flags.read_only() is not None,
            "stale": self._shared.stale,
            "events_dropped": self.events.dropped,
            "listener_errors": self.events.listener_errors,
            "abandoned_threads": self._shared.threads.abandoned,
        }

    def on_event(self, listener: Listener) -> None:
        """Call a function with every event, in the thread that caused it, outside all locks."""
        self.events.listeners.append(listener)

    # -- for the client --------------------------------------------------------------------------

    def apply(self, document: Document, received: Received) -> None:
        """Put a document in force as a whole; calls under way finish on what they began with."""
        with self.events.held(), self._lock:
            self.document, self.received = document, received
            self.flags.replace(document.flags, received)
            for dependency in self._dependencies.values():
                self._bring_in_line(dependency)
        self.events.emit(
            "policy.applied",
            None,
            {"revision": document.revision, "refused": len(document.refused)},
            report=False,
        )

    def held(self) -> AbstractContextManager[None]:
        """Put off what listeners are told by this thread until the end, when locks are free."""
        return self.events.held()

    def set_stale(self, stale: bool) -> None:
        """Say whether Holdfast has not been heard for too long: then `revert` flags end."""
        self.flags.stale = stale
        self._shared.stale = stale

    def set_dead_letter_sink(self, sink: Sink | None) -> None:
        """Install what takes the calls that become dead letters."""
        self._shared.sink = sink

    def collect(self) -> dict[str, Any]:
        """Counts since the last time, states and events, as reports send them."""
        with self._lock:
            dependencies = dict(self._dependencies)
        reported = {name: each.collect() for name, each in dependencies.items()}
        for key in self.flags.newly_over():
            self.events.emit("flag.lease_ended", None, {"flag": key})
        events = [event.as_reported() for event in self.events.drain()]
        return {"dependencies": reported, "events": events}

    def reset_after_fork(self) -> None:
        """In a child: fresh locks and counts, the same policy. Call before any other use."""
        self._lock = threading.RLock()
        self.events.reset_after_fork()
        self._shared.threads.reset_after_fork()
        self._shared.threads = Threads()
        for dependency in self._dependencies.values():
            dependency.reset_after_fork()

    def state_of(self, name: str) -> Dependency:
        """The state of a dependency, made on first use."""
        found = self._dependencies.get(name)
        return found if found is not None else self._discover(name)

    # -- below: only for the above ---------------------------------------------------------------

    def use(self, name: str) -> Dependency:
        """The state of a dependency for a call that is about to be made."""
        on_use = self.on_use  # once: another thread may clear it meanwhile
        if on_use is not None:
            on_use()
        try:
            return self._dependencies[name]
        except KeyError:
            return self._discover(name)

    def _touch(self) -> None:
        on_use = self.on_use
        if on_use is not None:
            on_use()

    def _discover(self, name: str) -> Dependency:
        with self.events.held(), self._lock:
            found = self._dependencies.get(name)
            if found is not None:
                return found
            dependency = Dependency(name, compile_plan(self._policy_of(name)), self._shared)
            self._bring_in_line(dependency)
            self._dependencies[name] = dependency
            is_unknown = self.document is not None and name not in self.document.dependencies
        if is_unknown:
            text = "dependency.discovered: no policy names %s yet; it is guarded with the defaults"
            log.warning(text, name, extra={"dependency": name})
        return dependency

    def _bring_in_line(self, dependency: Dependency) -> None:
        dependency.follow(self._plan_for(dependency))
        dependency.degrade(self.flags.degrading(dependency.name))
        if self.document is not None and self.received is not None:
            parts = self.document.dependencies.get(dependency.name, {})
            dependency.follow_override(parts.get("override"), self.received)

    def _plan_for(self, dependency: Dependency) -> Plan:
        return compile_plan(self._policy_of(dependency.name), dependency.plan)

    def _policy_of(self, name: str) -> Policy:
        if self.document is None:
            return self.defaults
        parts = self.document.dependencies.get(name, {})
        return {part: values for part, values in parts.items() if part != "override"}


def _from_environment() -> Policy:
    policy, problems = spec.local_defaults(os.environ)
    for problem in problems:
        log.warning("default.refused", extra={"variable": problem.path, "detail": problem.detail})
    return policy
