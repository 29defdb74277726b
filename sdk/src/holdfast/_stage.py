"""An engine for tests: its dependencies do what a test says, in place of what they would do."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, Protocol, TypeVar

from holdfast import deadline
from holdfast._engine import Engine
from holdfast._options import Options
from holdfast._outcome import Outcome
from holdfast.clock import Clock
from holdfast.errors import CallTimeout

P = ParamSpec("P")
R = TypeVar("R")

Error = Exception | type[Exception]

CALL: Any = object()
"""Says that the function itself is to be called."""


class Script(Protocol):
    """What a dependency does when it is called."""

    def play(self) -> Any:
        """Raise, or return the answer, or CALL."""
        ...


class Failing:
    """Raises, the first so many times or always."""

    def __init__(self, error: Error, times: int | None) -> None:
        self._error = error
        self._left = times
        self._lock = threading.Lock()

    def play(self) -> Any:
        with self._lock:
            if self._left == 0:
                return CALL
            if self._left is not None:
                self._left -= 1
        if isinstance(self._error, Exception):
            raise self._error.with_traceback(None)  # or it would grow with every attempt
        raise self._error


class Answering:
    """Answers a value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def play(self) -> Any:
        return self._value


class Slow:
    """Lets time pass on a clock; a call that may not take so long ends when its time is up."""

    def __init__(self, dependency: str, clock: Clock, seconds: float) -> None:
        self._dependency = dependency
        self._clock = clock
        self._seconds = seconds

    def play(self) -> Any:
        left = deadline.remaining(self._seconds)
        self._clock.sleep(min(left, self._seconds))
        if left < self._seconds:
            raise CallTimeout(self._dependency, seconds=left)
        return CALL


class Staged:
    """A function of a dependency that may follow a script. Equal to any other of that function.

    Args:
        find: The script to follow right now; None for none.
        is_async: Whether it is called for something to be awaited.
    """

    def __init__(
        self, find: Callable[[], Script | None], function: Callable[..., Any], *, is_async: bool
    ) -> None:
        functools.update_wrapper(self, function)
        self._find = find
        self._function = function
        self._is_async = is_async

    def __eq__(self, other: object) -> bool:
        # What a fallback remembers of a call it remembers by function and arguments.
        return isinstance(other, Staged) and other._function == self._function

    def __hash__(self) -> int:
        return hash(self._function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        script = self._find()
        if script is None:
            return self._function(*args, **kwargs)
        play = self._play_async if self._is_async else self._play
        return play(script, args, kwargs)

    def _play(self, script: Script, args: Any, kwargs: Any) -> Any:
        answer = script.play()
        return self._function(*args, **kwargs) if answer is CALL else answer

    async def _play_async(self, script: Script, args: Any, kwargs: Any) -> Any:
        answer = script.play()
        return await self._function(*args, **kwargs) if answer is CALL else answer


class Stage(Engine):
    """An engine whose dependencies can be told what to do. Calls are counted and judged as ever."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._scripts: dict[str, Script] = {}

    @contextmanager
    def played(self, dependency: str, script: Script) -> Iterator[None]:
        """Let a dependency follow a script, and afterwards what it followed before."""
        before = self._scripts.get(dependency)
        self._scripts[dependency] = script
        try:
            yield
        finally:
            if before is None:
                self._scripts.pop(dependency, None)
            else:
                self._scripts[dependency] = before

    def clear(self) -> None:
        """Forget every dependency with its state."""
        with self._lock:
            self._scripts.clear()
            self._dependencies.clear()
            self.on_use = _look_again

    def guard(self, dependency: str, **options: Any) -> Callable[[Any], Any]:
        """As `Engine.guard`."""
        guard = super().guard(dependency, **options)

        def decorate(function: Any) -> Any:
            if isinstance(function, staticmethod | classmethod):
                return type(function)(decorate(function.__func__))
            is_async = inspect.iscoroutinefunction(guard(function))
            return guard(_as_function(self._staged(dependency, function, is_async=is_async)))

        return decorate

    def call(
        self, dependency: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """As `Engine.call`."""
        staged: Callable[P, R] = self._staged(dependency, function)
        return super().call(dependency, staged, *args, **kwargs)

    async def acall(
        self,
        dependency: str,
        function: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """As `Engine.acall`."""
        staged = self._staged(dependency, function, is_async=True)
        return await super().acall(dependency, staged, *args, **kwargs)

    def try_call(
        self, dependency: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Outcome[R]:
        """As `Engine.try_call`."""
        return super().try_call(dependency, self._staged(dependency, function), *args, **kwargs)

    async def try_acall(
        self,
        dependency: str,
        function: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Outcome[R]:
        """As `Engine.try_acall`."""
        staged = self._staged(dependency, function, is_async=True)
        return await super().try_acall(dependency, staged, *args, **kwargs)

    def try_with(
        self, dependency: str, function: Any, options: Options, /, *args: Any, **kwargs: Any
    ) -> Outcome[Any]:
        """As `Engine.try_with`."""
        staged = self._staged(dependency, function)
        return super().try_with(dependency, staged, options, *args, **kwargs)

    async def try_with_async(
        self, dependency: str, function: Any, options: Options, /, *args: Any, **kwargs: Any
    ) -> Outcome[Any]:
        """As `Engine.try_with_async`."""
        staged = self._staged(dependency, function, is_async=True)
        return await super().try_with_async(dependency, staged, options, *args, **kwargs)

    def _staged(self, dependency: str, function: Any, *, is_async: bool = False) -> Any:
        return Staged(lambda: self._scripts.get(dependency), function, is_async=is_async)


def _as_function(staged: Staged) -> Callable[..., Any]:
    """The same as a function, whose kind can be seen and which may be a method."""
    if staged._is_async:

        @functools.wraps(staged)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return await staged(*args, **kwargs)

        return call_async

    @functools.wraps(staged)
    def call(*args: Any, **kwargs: Any) -> Any:
        return staged(*args, **kwargs)

    return call


def _look_again() -> None:
    """While an engine has an `on_use`, guarded functions ask it for their dependency anew."""
