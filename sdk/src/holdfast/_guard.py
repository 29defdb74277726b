"""Guarding a function: any kind of function in, the same kind out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from holdfast._call import Call, Options
from holdfast._classify import ErrorClass, Matcher
from holdfast._dependency import Dependency
from holdfast._fallback import Request
from holdfast._pipeline import call_async, call_sync
from holdfast.errors import Rejected
from holdfast.spec import ERROR_CLASSES

T = TypeVar("T")

Errors = Mapping[str, Matcher | Iterable[Matcher]]
"""Error class → exception types or predicates, asked in this order before the built-in rules.

Classes are those of the policies, and `ignored`: neither success nor failure, never retried.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[T]):
    """What became of a call, without an exception raised.

    Attributes:
        source: "call", or the kind of the fallback that answered; "none" if nothing did.
        attempts: Attempts made, those a gate refused included.
    """

    value: T | None = None
    error: Exception | None = None
    source: str = "call"
    attempts: int = 1

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    @property
    def rejection(self) -> Rejected | None:
        """Why the call was not made at all, if so."""
        return self.error if isinstance(self.error, Rejected) else None

    def unwrap(self) -> T:
        """The value; raises the error if there is none."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None only if it was the answer


def options_of(fallback: Callable[..., Any] | None = None, errors: Errors | None = None) -> Options:
    """The author's word, checked.

    Raises:
        ValueError: an error class that does not exist.
    """
    rules: list[tuple[Matcher, ErrorClass]] = []
    for klass, matchers in (errors or {}).items():
        if klass not in (*ERROR_CLASSES, "ignored"):
            raise ValueError(f"no error class {klass!r}: use {', '.join(ERROR_CLASSES)}, ignored")
        rules += [(matcher, klass) for matcher in _listed(matchers)]  # type: ignore[misc]  # checked above
    return Options(fallback=fallback, rules=tuple(rules))


def _listed(matchers: Any) -> tuple[Matcher, ...]:
    return tuple(matchers) if isinstance(matchers, list | tuple | set | frozenset) else (matchers,)


def guarded(find: Callable[[], Dependency], function: Any, options: Options) -> Any:
    """The function, guarded; methods, partials and callable objects too.

    Raises:
        TypeError: a generator, whose body runs after the guard is gone, or nothing callable.
    """
    if isinstance(function, staticmethod | classmethod):
        return type(function)(guarded(find, function.__func__, options))
    inner = _innermost(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError("a generator cannot be guarded: guard what it calls for each item")
    if not callable(function):
        raise TypeError("only something callable can be guarded")
    make = _async_wrapper if inspect.iscoroutinefunction(inner) else _sync_wrapper
    return make(find, function, options)


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return getattr(function, "__call__", function)  # noqa: B004 - its kind matters, not that it is


def _sync_wrapper(
    find: Callable[[], Dependency], function: Callable[..., Any], options: Options
) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return run(find(), function, args, kwargs, options)

    return wrapper


def _async_wrapper(
    find: Callable[[], Dependency], function: Callable[..., Any], options: Options
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await run_async(find(), function, args, kwargs, options)

    return wrapper


def run(
    dependency: Dependency, function: Callable[..., Any], args: Any, kwargs: Any, options: Options
) -> Any:
    """Make one guarded call in this thread."""
    return call_sync(_new_call(dependency, function, args, kwargs, options), function, args, kwargs)


async def run_async(
    dependency: Dependency, function: Callable[..., Any], args: Any, kwargs: Any, options: Options
) -> Any:
    """Make one guarded call in this task."""
    call = _new_call(dependency, function, args, kwargs, options)
    return await call_async(call, function, args, kwargs)


def attempt(
    dependency: Dependency, function: Callable[..., Any], args: Any, kwargs: Any, options: Options
) -> Outcome[Any]:
    """Make one guarded call in this thread and say what became of it."""
    call = _new_call(dependency, function, args, kwargs, options)
    try:
        value = call_sync(call, function, args, kwargs)
    except Exception as error:  # noqa: BLE001 - handed over instead of raised
        return Outcome(error=error, source="none", attempts=call.made)
    return Outcome(value=value, source=call.source, attempts=call.made)


async def attempt_async(
    dependency: Dependency, function: Callable[..., Any], args: Any, kwargs: Any, options: Options
) -> Outcome[Any]:
    """Make one guarded call in this task and say what became of it."""
    call = _new_call(dependency, function, args, kwargs, options)
    try:
        value = await call_async(call, function, args, kwargs)
    except Exception as error:  # noqa: BLE001 - handed over instead of raised
        return Outcome(error=error, source="none", attempts=call.made)
    return Outcome(value=value, source=call.source, attempts=call.made)


def _new_call(
    dependency: Dependency, function: Callable[..., Any], args: Any, kwargs: Any, options: Options
) -> Call:
    request = Request(function=function, args=args, kwargs=kwargs)
    return Call(dependency, options, request)
