"""The client: what a service's code holds in its hands."""

import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from msgspec.structs import replace

from holdfast._engine import Engine
from holdfast._events import Listener
from holdfast._failed import Serialize
from holdfast._flags import FlagState
from holdfast._guard import Errors
from holdfast._letter import Capture, Limits
from holdfast._outcome import Outcome
from holdfast._redrive import Handler
from holdfast._session import Session
from holdfast._settings import Timing, new_instance, resolve
from holdfast._views import DependencyView
from holdfast.clock import Clock

__all__ = ["Holdfast"]

log = logging.getLogger("holdfast")

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
H = TypeVar("H", bound=Handler)


class Holdfast:
    """Guards calls by the policy operators decide on, and tells Holdfast what came of them.

        hf = Holdfast()  # HOLDFAST_URL, HOLDFAST_TOKEN, HOLDFAST_SERVICE

        @hf.guard("payments-api")
        def quote(symbol): ...

    Making one starts nothing. The first guarded call or flag look-up puts the policy last stored
    on disk in force and starts three daemon threads, which fetch newer ones and send reports. No
    call ever waits for Holdfast, and none fails because of it: the last good policy stays, and
    without URL, token or service name the local defaults hold. Reading the stored policy is all
    the first use takes its time for, about 1 ms for 50 dependencies; `start` does it sooner. One
    per process is enough; it is safe for threads, event loops and forks, after which a child starts
    threads of its own.

    Args:
        url, token, service: Where Holdfast is, who asks, and for what; else from `HOLDFAST_URL`,
            `HOLDFAST_TOKEN` and `HOLDFAST_SERVICE`.
        cache_dir: Where the last good policy is kept; else `HOLDFAST_CACHE_DIR`, else the user's
            cache directory.
        clock, timing: For tests.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        service: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
        timing: Timing | None = None,
    ) -> None:
        settings = resolve(url, token, service, cache_dir)
        self._engine = Engine(clock, instance=new_instance())
        self._session = Session(settings, timing or Timing(), self._engine)

    def __repr__(self) -> str:
        connection = self._session.connection
        applied = None if connection is None else connection.feed.applied
        revision = None if applied is None else applied.revision
        where = f"service={self._session.settings.service!r} url={self._session.settings.url!r}"
        return f"<Holdfast {where} revision={revision}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- making calls ----------------------------------------------------------------------------

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
            fallback: The function named "function" in the fallback chain; gets the same arguments.
            errors: Error class → exception types or predicates of the author's own.
            dead_letter: Handler of the dead letters that calls become when they fail for good;
                when that is, says `dead_letter.when` of the policy. Without it, never.
            serialize: Makes the body of such a letter; gets the same arguments. Without it, the
                body is `{"args": […], "kwargs": {…}}`, if that can be written as JSON.
            idempotency_key: Makes the key that stays the same over redrives; likewise.

        Raises:
            TypeError: the function is a generator.
            ValueError: an unknown error class.
        """
        return self._engine.guard(
            dependency,
            fallback=fallback,
            errors=errors,
            dead_letter=dead_letter,
            serialize=serialize,
            idempotency_key=idempotency_key,
        )

    def call(
        self, dependency: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Make one guarded call of an ordinary function.

        Raises:
            Rejected: the call was not made, and no fallback answered.
            CallTimeout: it took too long.
        """
        return self._engine.call(dependency, function, *args, **kwargs)

    async def acall(
        self,
        dependency: str,
        function: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """As `call`, for a coroutine function."""
        return await self._engine.acall(dependency, function, *args, **kwargs)

    def try_call(
        self, dependency: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Outcome[R]:
        """Make one guarded call and get its value, rejection or error without a raise."""
        return self._engine.try_call(dependency, function, *args, **kwargs)

    async def try_acall(
        self,
        dependency: str,
        function: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Outcome[R]:
        """As `try_call`, for a coroutine function."""
        return await self._engine.try_acall(dependency, function, *args, **kwargs)

    def register_fallback(self, name: str, function: Callable[..., Any]) -> None:
        """Make a function known to fallback chains by name."""
        self._engine.register_fallback(name, function)

    def register_errors(self, errors: Errors, dependency: str | None = None) -> None:
        """Say which class errors belong to, of one dependency or of all.

        What a guard says itself is asked first, then this in the order it was registered, then
        the built-in rules for well-known libraries.

        Args:
            errors: Error class (transient, permanent, critical, unknown, ignored) → exception
                types, or predicates that are given the error.

        Raises:
            ValueError: an unknown error class.
        """
        self._engine.register_errors(errors, dependency)

    def register_restart(self, dependency: str, function: Callable[[], object]) -> None:
        """Make known what restarts the connection to a dependency, for rules of error recovery.

        It is called without arguments, in a thread of its own, once at a time; raising an
        exception says that it failed.

        Raises:
            TypeError: it is a coroutine function.
        """
        self._engine.register_restart(dependency, function)

    # -- dead letters ------------------------------------------------------------------------------

    def dead_letter(
        self,
        handler: str,
        body: Any,
        *,
        content_type: str | None = None,
        dependency: str | None = None,
        error: BaseException | None = None,
        reason: str = "manual",
        attempts: int = 1,
        headers: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
        dedup_key: str | None = None,
        correlation_id: str | None = None,
        fingerprint: str | None = None,
        redact: Iterable[str] = (),
    ) -> bool:
        """Keep something that failed for good, to be looked at and tried again.

        It is on this machine's disk when this returns, and delivered whenever Holdfast can be
        reached, by this process or the next. Waits for a short local write at most.

        Args:
            handler: Name of the function given to `redrives` that can try it again.
            body: What that function needs: bytes, text, or anything that JSON can say.
            dependency: What failed; its policy bounds and redacts the body.
            idempotency_key: What makes the work the same work; stays the same over redrives.
            dedup_key: Letters with the same key are one, which failed again; else made of handler
                and `idempotency_key`.
            redact: Paths in the body to be blanked, beside those of the policy.

        Returns:
            Whether it was kept; if not, the log says why once.

        Raises:
            ValueError: a reason that does not exist, or a handler's name of 0 or over 200
                characters.
        """
        self._session.ensure_started()  # with the policy on disk, which says what is to be redacted
        rules = None if dependency is None else self._engine.state_of(dependency).plan.dead_letter
        limits = Limits() if rules is None else Limits(max_body_bytes=rules.max_body_bytes)
        paths = (*(rules.redact if rules else ()), *redact)
        capture = Capture(
            handler=handler,
            body=body,
            content_type=content_type,
            reason=reason,
            error=error,
            dependency=dependency,
            attempts=attempts,
            failed_at=self._engine.clock.wall(),
            idempotency_key=idempotency_key,
            dedup_key=dedup_key,
            correlation_id=correlation_id,
            headers=headers or {},
            fingerprint=fingerprint,
        )
        capture.check()
        return self._session.capture(capture, replace(limits, redact=paths))

    def redrives(self, handler: str) -> Callable[[H], H]:
        """Decorate a function, `def` or `async def`, that tries dead letters again.

        It gets a `Letter`. If it returns, the letter is resolved; if it raises, the letter failed
        again; if it raises `Rejected`, the letter was not tried and comes again. It runs in a
        thread of the SDK, one letter at a time, from the first use of the client on.

        A letter is never run twice in one process, but it may come again after a process was
        killed in the middle: key what must happen once by `letter.idempotency_key`.

        Raises:
            ValueError: a name of 0 or over 200 characters.
        """

        def register(function: H) -> H:
            self._session.handlers.register(handler, function)
            connection = self._session.connection
            if connection is not None:
                connection.redriver.start()
            return function

        return register

    # -- asking ------------------------------------------------------------------------------------

    @property
    def read_only(self) -> bool:
        """Whether an operator has switched writing off right now."""
        return self._engine.read_only

    @property
    def read_only_flag(self) -> FlagState | None:
        """The flag that switches writing off, with reason, author and time left; None if none."""
        return self._engine.read_only_flag()

    def flag(self, name: str, key: str | None = None) -> FlagState:
        """What a flag says, for a key such as a user's id; for this instance without one."""
        return self._engine.flag(name, key)

    def dependency(self, name: str) -> DependencyView:
        """One dependency, to look at: its breaker's state, its counts."""
        return self._engine.dependency(name)

    def explain(self, name: str) -> dict[str, Any]:
        """Each effective value of a dependency with where it came from.

        Beside them, once: `epoch`, `revision`, `published_at` and `origin` of the policy ("server",
        "snapshot" or "local defaults"), and as `age_seconds` how long since it was confirmed.
        """
        explained = self._engine.explain(name)
        connection = self._session.connection
        if connection is not None and connection.feed.applied is not None:
            explained["age_seconds"] = round(connection.feed.silence, 3)
        return explained

    def stats(self) -> dict[str, Any]:
        """Totals since the process started, and how it stands with the policy."""
        connection = self._session.connection
        return {
            **self._engine.stats(),
            "instance": self._session.instance,
            "policy": None if connection is None else connection.stats(),
            "dead_letters": None if connection is None else connection.letters.stats(),
            "redrives": None if connection is None else connection.redriver.stats(),
        }

    def on_event(self, listener: Listener) -> None:
        """Call a function with every event, in the thread that caused it, outside all locks."""
        self._engine.on_event(listener)

    def count_request(self, status: int, seconds: float) -> None:
        """Count one request this service answered, for its own figures in Holdfast.

        The Django and ASGI middlewares do it; call it yourself from anything else.
        """
        self._session.requests.count(status, seconds)

    # -- beginning and end -------------------------------------------------------------------------

    def start(self, wait: float = 0.0) -> bool:
        """Start now instead of at the first use.

        Never raises for a server that is unreachable or refuses us.

        Args:
            wait: Seconds to wait at most for the server's first word.

        Returns:
            Whether a policy is in force; if not, the local defaults are.
        """
        self._session.ensure_started()
        connection = self._session.connection
        return False if connection is None else connection.wait(wait)

    def close(self) -> None:
        """Send a last report and stop the threads; waits a second at most.

        Guarded calls go on, under the policy then in force; leases still end. Safe to call twice.
        """
        self._session.close()
