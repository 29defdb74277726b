"""Lets another thread in at every place where CPython may, one after the other.

A race that a stress test meets once in a million calls is met here in every run.
"""

from __future__ import annotations

import dis
import itertools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import holdfast

PACKAGE = str(Path(holdfast.__file__).parent)
WAIT = 10.0
UNTIL_BLOCKED = 0.002  # seconds after which the other thread is taken to wait for a lock
CHECKED = ("RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "CALL", "BEFORE_WITH", "LOAD_SPECIAL")
"""Instructions after which another thread may run; "CALL" stands for CALL_KW and so on too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What one thread does, what another does meanwhile, and what must be true in the end."""

    work: Callable[[], Any]
    meanwhile: Callable[[], Any]
    check: Callable[[], Any]


def explore(make: Callable[[], Scene], *, within: Callable[..., Any], deep: bool = True) -> int:
    """Play a scene once for each place at which its work can be interrupted; returns their number.

    Args:
        within: Only while this function runs.
        deep: Also while it waits for what it calls.
    """
    for number in itertools.count():
        scene = make()
        visit = _Visit(scene.meanwhile, number, within, deep=deep)
        visit.watch(scene.work)
        if not visit.came:
            return number
        scene.check()
    raise AssertionError("unreachable")


class _Visit:
    """Runs something in another thread at the place of that number."""

    def __init__(
        self, meanwhile: Callable[[], Any], number: int, within: Callable[..., Any], *, deep: bool
    ) -> None:
        self.came = False
        self._left = number
        self._within = within.__code__
        self._deep = deep
        self._depth = 0
        self._last: dict[FrameType, str] = {}
        self._errors: list[BaseException] = []
        self._meanwhile = meanwhile
        self._thread = threading.Thread(target=self._run, daemon=True)

    def watch(self, work: Callable[[], Any]) -> None:
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # or 3.12 tells nobody of instructions
        sys.settrace(self._trace)
        try:
            work()
        finally:
            sys.settrace(before)
        if self.came:
            self._thread.join(WAIT)
            assert not self._thread.is_alive(), "the other thread waits for ever"
        assert not self._errors, self._errors

    def _run(self) -> None:
        try:
            self._meanwhile()
        except BaseException as error:  # noqa: BLE001 - raised by `watch` in the test's thread
            self._errors.append(error)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            if not frame.f_code.co_filename.startswith(PACKAGE):
                return None
            self._depth += frame.f_code is self._within
            frame.f_trace = self._trace  # or newer ones tell nobody
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            self._last[frame] = "RESUME"
        elif event == "opcode":
            is_inside = self._depth if self._deep else frame.f_code is self._within
            if is_inside and self._last.get(frame, "").startswith(CHECKED):
                self._pass()
            self._last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        elif event == "return":
            self._depth -= frame.f_code is self._within
            self._last.pop(frame, None)
        return self._trace

    def _pass(self) -> None:
        self._left -= 1
        if self._left == -1:
            self.came = True
            self._thread.start()
            self._thread.join(UNTIL_BLOCKED)
