"""OpenTelemetry: every guarded call is a span, and guarded requests carry it to who is asked.

    hf = TracedHoldfast()       # in place of Holdfast()

A span is named after its dependency and says how many attempts there were, what came of them and
which fallback answered; retries and changes of the breaker are events of it. Requests of
`holdfast.contrib.httpx` and `.requests` with such a client are spans too, and carry the context in
their headers: `traceparent`, and what else is configured.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, StatusCode, TracerProvider

from holdfast import __version__
from holdfast._events import Event
from holdfast._failed import Serialize
from holdfast._guard import Errors, options_of
from holdfast._options import Options
from holdfast._outcome import Outcome
from holdfast.client import Holdfast
from holdfast.errors import Rejected

__all__ = ["CallSpan", "TracedHoldfast"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")

_TOLD = frozenset({"retry.attempted", "breaker.state_changed", "recovery.applied"})


class CallSpan:
    """The span of one guarded call."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.is_told = False

    def tell(self, outcome: Outcome[R]) -> Outcome[R]:
        """Write down what became of the call."""
        self.is_told = True
        self._span.set_attribute("holdfast.attempts", outcome.attempts)
        error = outcome.error
        if error is not None:
            self._tell_error(error)
        elif outcome.source == "call":
            self._span.set_attribute("holdfast.outcome", "success")
        else:
            self._span.set_attribute("holdfast.outcome", "fallback")
            self._span.set_attribute("holdfast.fallback", outcome.source)
        return outcome

    def headers(self) -> dict[str, str]:
        """What carries the context in a request, by the global propagator."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    def _tell_error(self, error: Exception) -> None:
        if isinstance(error, Rejected):
            self._span.set_attribute("holdfast.outcome", "rejected")
            self._span.set_attribute("holdfast.rejected", error.reason)
        else:
            self._span.set_attribute("holdfast.outcome", "failure")
            self._span.record_exception(error)
        self._span.set_attribute("error.type", type(error).__qualname__)
        self._span.set_status(StatusCode.ERROR, str(error))


class TracedHoldfast(Holdfast):
    """A client whose guarded calls are spans; in all else a `Holdfast`.

    Args:
        tracer_provider: Who makes the spans; the global one by default.
        arguments, named: As the class it is mixed with takes them.
    """

    def __init__(
        self, *arguments: Any, tracer_provider: TracerProvider | None = None, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._tracer = trace.get_tracer("holdfast", __version__, tracer_provider)
        self.on_event(_tell)

    @contextmanager
    def call_span(self, dependency: str) -> Iterator[CallSpan]:
        """A span around one guarded call, the current one meanwhile."""
        with self._tracer.start_as_current_span(
            dependency,
            attributes={"holdfast.dependency": dependency},
            record_exception=False,  # `CallSpan.tell` does, of what is an error
            set_status_on_exception=False,
        ) as span:
            call = CallSpan(span)
            try:
                yield call
            finally:
                if not call.is_told:  # cancelled, or the process is about to end
                    span.set_attribute("holdfast.outcome", "interrupted")

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
        """As `Holdfast.guard`."""
        more = {
            "dead_letter": dead_letter,
            "serialize": serialize,
            "idempotency_key": idempotency_key,
        }
        options = options_of(fallback, errors, **more)
        plain = super().guard(dependency)  # says what kind of function it is, and refuses some

        def decorate(function: Any) -> Any:
            if isinstance(function, staticmethod | classmethod):
                return type(function)(decorate(function.__func__))
            is_async = inspect.iscoroutinefunction(plain(function))
            make = self._traced_async if is_async else self._traced
            return make(dependency, function, options)

        return decorate

    def call(
        self, dependency: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """As `Holdfast.call`."""
        return self.try_call(dependency, function, *args, **kwargs).unwrap()

    async def acall(
        self,
        dependency: str,
        function: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """As `Holdfast.acall`."""
        return (await self.try_acall(dependency, function, *args, **kwargs)).unwrap()

    def try_call(
        self, dependency: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Outcome[R]:
        """As `Holdfast.try_call`."""
        with self.call_span(dependency) as span:
            return span.tell(super().try_call(dependency, function, *args, **kwargs))

    async def try_acall(
        self,
        dependency: str,
        function: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Outcome[R]:
        """As `Holdfast.try_acall`."""
        with self.call_span(dependency) as span:
            return span.tell(await super().try_acall(dependency, function, *args, **kwargs))

    def _traced(self, dependency: str, function: Any, options: Options) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.call_span(dependency) as span:
                try_with = self._engine.try_with
                return span.tell(try_with(dependency, function, options, *args, **kwargs)).unwrap()

        return wrapper

    def _traced_async(self, dependency: str, function: Any, options: Options) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.call_span(dependency) as span:
                call = self._engine.try_with_async(dependency, function, options, *args, **kwargs)
                return span.tell(await call).unwrap()

        return wrapper


def _tell(event: Event) -> None:
    """Put an event on the span it happened in.

    An event may be told by another thread than its own, where another call's span is the current
    one: then it is left out.
    """
    if event.type not in _TOLD or event.thread != threading.get_ident():
        return
    data = {name: _plain(value) for name, value in event.data.items()}
    trace.get_current_span().add_event(event.type, {**data, "dependency": event.dependency or ""})


def _plain(value: Any) -> str | bool | int | float:
    return value if isinstance(value, str | bool | int | float) else str(value)
