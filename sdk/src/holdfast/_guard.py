"""Guarding a function: any kind of function in, the same kind out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from holdfast._classify import ErrorClass, Matcher
from holdfast._dependency import Dependency
from holdfast._lane import Calls, run, run_async, turned_away
from holdfast._options import Options
from holdfast._outcome import Outcome
from holdfast.spec import ERROR_CLASSES

T = TypeVar("T")

Errors = Mapping[str, Matcher | Iterable[Matcher]]
"""Error class → exception types or predicates, asked in this order before the built-in rules.

Classes are those of the policies, and `ignored`: neither success nor failure, never retried.
"""


class Users(Protocol):
    """The engine, as guards see it: they keep what it found, and ask anew while `on_use` is set."""

    on_use: Callable[[], None] | None

    def use(self, name: str) -> Dependency: ...


def options_of(
    fallback: Callable[..., Any] | None = None, errors: Errors | None = None, **more: Any
) -> Options:
    """The author's word, checked; `more` is as `Options` has it.

    Raises:
        ValueError: an error class that does not exist.
    """
    rules: list[tuple[Matcher, ErrorClass]] = []
    for klass, matchers in (errors or {}).items():
        if klass not in (*ERROR_CLASSES, "ignored"):
            raise ValueError(f"no error class {klass!r}: use {', '.join(ERROR_CLASSES)}, ignored")
        rules += [(matcher, klass) for matcher in _listed(matchers)]  # type: ignore[misc]  # checked above
    return Options(fallback=fallback, rules=tuple(rules), **more)


def _listed(matchers: Any) -> tuple[Matcher, ...]:
    return tuple(matchers) if isinstance(matchers, list | tuple | set | frozenset) else (matchers,)


def guarded(engine: Users, name: str, function: Any, options: Options) -> Any:
    """The function, guarded; methods, partials and callable objects too.

    Raises:
        TypeError: a generator, whose body runs after the guard is gone, or nothing callable.
    """
    if isinstance(function, staticmethod | classmethod):
        return type(function)(guarded(engine, name, function.__func__, options))
    inner = _innermost(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError("a generator cannot be guarded: guard what it calls for each item")
    if not callable(function):
        raise TypeError("only something callable can be guarded")
    make = _async_wrapper if inspect.iscoroutinefunction(inner) else _sync_wrapper
    return make(engine, name, function, options)


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return getattr(function, "__call__", function)  # noqa: B004 - its kind matters, not that it is


def _sync_wrapper(
    engine: Users, name: str, function: Callable[..., Any], options: Options
) -> Callable[..., Any]:
    dependency: Dependency | None = None

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal dependency
        if dependency is None or engine.on_use is not None:
            dependency = engine.use(name)
        return run(dependency, function, args, kwargs, options)

    return wrapper


def _async_wrapper(
    engine: Users, name: str, function: Callable[..., Any], options: Options
) -> Callable[..., Any]:
    dependency: Dependency | None = None

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal dependency
        if dependency is None or engine.on_use is not None:
            dependency = engine.use(name)
        return await run_async(dependency, function, args, kwargs, options)

    return wrapper


def attempt(
    dependency: Dependency, function: Callable[..., Any], args: Any, kwargs: Any, options: Options
) -> Outcome[Any]:
    """Make one guarded call in this thread and say what became of it."""
    refused = turned_away(dependency, options)
    if refused is not None:
        return refused
    calls: Calls = []
    try:
        value = run(dependency, function, args, kwargs, options, calls)
    except Exception as error:  # noqa: BLE001 - handed over instead of raised
        return _failed(calls, error)
    return _succeeded(calls, value)


async def attempt_async(
    dependency: Dependency, function: Callable[..., Any], args: Any, kwargs: Any, options: Options
) -> Outcome[Any]:
    """Make one guarded call in this task and say what became of it."""
    refused = turned_away(dependency, options)
    if refused is not None:
        return refused
    calls: Calls = []
    try:
        value = await run_async(dependency, function, args, kwargs, options, calls)
    except Exception as error:  # noqa: BLE001 - handed over instead of raised
        return _failed(calls, error)
    return _succeeded(calls, value)


def _succeeded(calls: Calls, value: Any) -> Outcome[Any]:
    if not calls:
        return Outcome(value)
    return Outcome(value, source=calls[0].source, attempts=calls[0].made)


def _failed(calls: Calls, error: Exception) -> Outcome[Any]:
    return Outcome(error=error, source="none", attempts=calls[0].made if calls else 1)
