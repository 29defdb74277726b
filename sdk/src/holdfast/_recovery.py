"""Error recovery: notice errors that repeat, and do what the policy's rules say about them.

Asked only when an attempt failed; a call that succeeds never comes here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_TYPES = 100  # of errors that are counted at a time; the one unseen for longest goes first
_EVERYTHING = (Exception, BaseException, object)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRule:
    """One rule; members as `holdfast.spec` has them."""

    match: str
    action: str
    attempts: int = 1
    delay_seconds: float = 0.0
    cooldown_seconds: float = 60.0
    isolate_seconds: float = 300.0

    def matches(self, kind: type[Exception], klass: str) -> bool:
        """Whether it is for errors of this type and error class."""
        return self.match == klass or self.match in names_of(kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRules:
    """Effective recovery settings (`holdfast.spec`)."""

    rules: tuple[RecoveryRule, ...]
    pattern_window_seconds: float
    pattern_count: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> RecoveryRules:
        """Rules from effective settings."""
        return cls(**{**settings, "rules": tuple(RecoveryRule(**it) for it in settings["rules"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPattern:
    """The same type of error, often enough in a short time.

    Attributes:
        rule: The rule to apply now; None if none matches, or it was applied a moment ago.
        is_news: Whether nobody was told of this pattern within its window.
    """

    error: str
    klass: str
    rule: RecoveryRule | None
    is_news: bool


class Recovery:
    """What repeats at one dependency, and when which rule was applied. Safe for threads.

    Instants passed in are monotonic seconds.
    """

    def __init__(self, rules: RecoveryRules) -> None:
        self.rules = rules
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()
        self._told_at: dict[str, float] = {}
        self._applied_at: dict[RecoveryRule, float] = {}
        self._answering: dict[RecoveryRule, float] = {}  # rule → until when its fallback answers
        self._is_restarting = False

    def noticed(self, error: Exception, klass: str, now: float) -> ErrorPattern | None:
        """Count a failed attempt; the pattern it completes, if it does."""
        kind = type(error)
        name = name_of(kind)
        with self._lock:
            if not self._completes(name, now):
                return None
            told_at = self._told_at.get(name)
            is_news = told_at is None or now - told_at >= self.rules.pattern_window_seconds
            if is_news:
                self._told_at[name] = now
            rule = self._due_rule(kind, klass, now)
        return ErrorPattern(error=name, klass=klass, rule=rule, is_news=is_news)

    def answer_from_now(self, rule: RecoveryRule, now: float) -> None:
        """Let the fallback answer the rule's errors, whatever causes it answers otherwise."""
        self._answering[rule] = now + rule.isolate_seconds

    def lets_fallback_answer(self, error: Exception, klass: str, now: float) -> bool:
        """Whether a rule has the fallback answer this error now."""
        if not self._answering:
            return False
        return any(
            now < until and rule.matches(type(error), klass)
            for rule, until in self._answering.copy().items()
        )

    def begin_restart(self) -> bool:
        """Take the right to restart; False if a restart is under way."""
        with self._lock:
            was_restarting, self._is_restarting = self._is_restarting, True
            return not was_restarting

    def end_restart(self) -> None:
        """Give the right back."""
        self._is_restarting = False

    def configure(self, rules: RecoveryRules) -> None:
        """Follow new rules: counts go on, and so do the pauses of rules that stayed."""
        with self._lock:
            self.rules = rules
            for name, seen in self._seen.items():
                self._seen[name] = deque(seen, maxlen=rules.pattern_count)
            for kept in (self._applied_at, self._answering):
                for rule in [each for each in kept if each not in rules.rules]:
                    del kept[rule]

    def reset_after_fork(self) -> None:
        """A child has no failures yet, and no thread that restarts anything."""
        self._lock = threading.Lock()
        self._seen.clear()
        self._is_restarting = False

    # -- below: only with the lock held --------------------------------------------------------

    def _completes(self, name: str, now: float) -> bool:
        rules = self.rules
        seen = self._seen.setdefault(name, deque(maxlen=rules.pattern_count))
        self._seen.move_to_end(name)
        if len(self._seen) > MOST_TYPES:
            forgotten, _ = self._seen.popitem(last=False)
            self._told_at.pop(forgotten, None)
        seen.append(now)
        if len(seen) < rules.pattern_count or now - seen[0] > rules.pattern_window_seconds:
            return False
        seen.clear()
        return True

    def _due_rule(self, kind: type[Exception], klass: str, now: float) -> RecoveryRule | None:
        """The first rule that matches, unless it was applied a moment ago; it counts as applied."""
        rule = next((each for each in self.rules.rules if each.matches(kind, klass)), None)
        if rule is None:
            return None
        applied_at = self._applied_at.get(rule)
        if applied_at is not None and now - applied_at < rule.cooldown_seconds:
            return None
        self._applied_at[rule] = now
        return rule


def in_background(work: Callable[[], None]) -> None:
    """Run something in a daemon thread of its own."""
    threading.Thread(target=work, name="holdfast-restart", daemon=True).start()


def name_of(kind: type[BaseException]) -> str:
    """Full name of a type of error, such as "shop.errors.Busy"; of built-in ones the last part."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def names_of(kind: type[BaseException]) -> frozenset[str]:
    """What a rule may call a type of error, or one of those it derives from.

    The full name, the package and the last part (libraries define their errors in modules of
    their own), or the last part alone.
    """
    return frozenset(
        name
        for base in kind.__mro__
        if base is kind or base not in _EVERYTHING
        for name in (
            f"{base.__module__}.{base.__qualname__}",
            f"{base.__module__.partition('.')[0]}.{base.__name__}",
            base.__name__,
        )
    )
