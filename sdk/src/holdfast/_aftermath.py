"""What becomes of a call that failed for good: a fallback answers, a dead letter is made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast._call import Call
from holdfast._failed import FailedCall, is_exhausted, reason_of
from holdfast._fallback import Link, NoAnswer, causes_of
from holdfast._scope import running


class Aftermath:
    """The decisions after the last attempt; the shells around them are in `_pipeline`.

    It keeps no error: one it kept would keep itself alive, by the frames it came through.
    """

    __slots__ = ("_call", "_is_captured")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._is_captured = False  # it is a dead letter already

    def links(self, error: Exception) -> tuple[Link, ...]:
        """The fallbacks that answer for this error."""
        klass, dependency = self._call.class_of(error), self._call.dependency
        now = dependency.shared.clock.monotonic()
        return self._call.plan.fallback.links_for(
            causes_of(error, klass),
            has_function=self._call.options.fallback is not None,
            whatever=dependency.recovery.lets_fallback_answer(error, klass, now),
        )

    def function_of(self, link: Link) -> Callable[..., Any]:
        """The function a link names.

        Raises:
            NoAnswer: there is none of that name.
        """
        registered = self._call.dependency.shared.functions.get(link.name)
        function = registered if link.name else self._call.options.fallback
        if function is None:
            raise NoAnswer(f"no function {link.name or 'was given to the guard'}")
        return function

    def look_up(self, link: Link, error: Exception) -> Any:
        """The answer of a link without a function; raises NoAnswer if it has none."""
        if link.kind == "queue":
            return self._queue(link, error)
        now = self._call.dependency.shared.clock.monotonic()
        return self._call.dependency.fallbacks.look_up(link, self._call.request, now)

    def answered(self, link: Link, error: Exception) -> None:
        """A fallback answered."""
        if self._call.plan.dead_letter.when == "always":
            self._bury(error)
        self._call.source = link.kind
        self._call.dependency.stats.count(f"fallbacks.{link.kind}")
        self._call.dependency.shared.events.emit_sampled(
            "fallback.used", self._call.dependency.name, {"kind": link.kind}
        )

    def failed(self, error: Exception) -> None:
        """Nothing answered: the caller gets the error."""
        when = self._call.plan.dead_letter.when
        if when in ("failed", "always") or (when == "exhausted" and self._is_exhausted(error)):
            self._bury(error)

    def _queue(self, link: Link, error: Exception) -> Any:
        if self._call.dependency.shared.sink is None:
            raise NoAnswer("no queue of dead letters is installed")
        if running.get() is not None:
            raise NoAnswer("a dead letter is being tried again: it stays the one that waits")
        function = self._call.request.function
        handler = link.name or self._call.options.dead_letter or getattr(function, "__name__", "")
        self._hand_over(handler, error)
        if not self._is_captured:
            raise NoAnswer("the queue of dead letters did not take the call")
        return link.value

    def _bury(self, error: Exception) -> None:
        """Make a dead letter of the call if its author named a handler, and none was made yet."""
        is_wanted = self._call.options.dead_letter and self._call.class_of(error) != "ignored"
        if is_wanted and not self._is_captured:
            self._hand_over(self._call.options.dead_letter, error)

    def _hand_over(self, handler: str, error: Exception) -> None:
        sink = self._call.dependency.shared.sink
        self._is_captured = sink is not None and sink(
            FailedCall(
                dependency=self._call.dependency.name,
                handler=handler,
                args=self._call.request.args,
                kwargs=self._call.request.kwargs,
                error=error,
                reason=reason_of(error, exhausted=self._is_exhausted(error)),
                attempts=self._call.made,
                first_failed_at=self._call.first_failed_at,
                rules=self._call.plan.dead_letter,
                serialize=self._call.options.serialize,
                idempotency_key=self._call.options.idempotency_key,
            )
        )

    def _is_exhausted(self, error: Exception) -> bool:
        return is_exhausted(error, self._call.class_of(error), self._call.stop, self._call.made)
