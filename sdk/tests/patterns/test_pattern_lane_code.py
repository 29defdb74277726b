"""What the fast lane relies on in its own code: lines in a row that are one step for other threads.

CPython 3.11 to 3.15 lets another thread in where a function begins, after a call and at a jump
backward, and nowhere else.
"""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import pytest

from holdfast import _breaker, _breaker_rules, _bulkhead, _dependency, _lane, _plan, _stats, _window

HARMLESS = (
    "BINARY_OP", "BINARY_SUBSCR", "COMPARE_OP", "COPY", "DUP_TOP", "EXTENDED_ARG", "IS_OP",
    "JUMP_FORWARD", "JUMP_IF", "LOAD_ATTR", "LOAD_COMMON_CONSTANT", "LOAD_CONST", "LOAD_FAST",
    "LOAD_GLOBAL", "LOAD_SMALL_INT", "NOP", "NOT_TAKEN", "POP_JUMP_FORWARD_IF", "POP_JUMP_IF",
    "POP_TOP", "PUSH_NULL", "RETURN_CONST", "RETURN_VALUE", "STORE_ATTR", "STORE_FAST",
    "STORE_SUBSCR", "SWAP", "TO_BOOL", "UNARY_NOT",
)  # fmt: skip
"""Beginnings of the names of instructions that neither call nor allocate what is collected."""

MODULES = (_lane, _window, _bulkhead)
CLASSES = (
    _breaker.Breaker, _breaker_rules.BreakerRules, _bulkhead.Bulkhead, _bulkhead.BulkheadRules,
    _dependency.Dependency, _plan.Plan, _stats.Stats, _window.CountWindow, _window.TimeWindow,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Lines of a function that are one step, as a comment there says."""

    function: FunctionType
    lines: frozenset[int]
    until: str | None

    def instructions(self) -> list[dis.Instruction]:
        """Those of its lines; up to the last that loads `until`, if only part of a line counts."""
        own = [
            each
            for each in dis.get_instructions(self.function)
            if each.positions is not None and each.positions.lineno in self.lines
        ]
        if self.until is not None:
            last = max(place for place, each in enumerate(own) if each.argval == self.until)
            own = own[: last + 1]
        if own[-1].opname.startswith("JUMP_BACKWARD"):  # to the next round: there it ends
            own.pop()
        return own


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    for found in vars(module).values():
        members = vars(found).values() if inspect.isclass(found) else (found,)
        for member in members:
            if inspect.isfunction(member) and member.__code__.co_filename == module.__file__:
                yield member


def blocks_of(function: FunctionType) -> Iterator[Block]:
    text, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(text)))
    for number, line in enumerate(text, start=1):
        code, _, comment = line.partition("#")
        if "one step" not in comment.lower():
            continue
        start = number if code.strip() else number + 1
        suite = suite_from(tree, start)
        kind = comment.lower().partition("one step")[2].strip(" ,.\n")
        yield block(function, kind, suite, offset=first - 1)


def suite_from(tree: ast.AST, line: int) -> list[ast.stmt]:
    """The statement of a line and those that follow it on the same level."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None) or []
            for place, statement in enumerate(statements if isinstance(statements, list) else []):
                if statement.lineno == line:
                    return list(statements[place:])
    raise AssertionError(f"no statement begins in line {line}")


def block(function: FunctionType, kind: str, suite: list[ast.stmt], *, offset: int) -> Block:
    until = None
    if kind == "with the line that takes it":
        test, taking = suite[0], suite[1]
        assert isinstance(test, ast.If)
        assert isinstance(taking, ast.AugAssign)
        lines = {test.lineno, taking.lineno}
    elif kind == "up to the signposts":
        until = "detour"
        lines = {each.lineno for each in suite[:3]}
    else:
        assert kind in ("up to the end", "up to the next bucket"), kind
        lines = {n for each in suite for n in range(each.lineno, (each.end_lineno or 0) + 1)}
    return Block(function=function, lines=frozenset(n + offset for n in lines), until=until)


BLOCKS = [
    block
    for module in MODULES
    for function in functions_of(module)
    for block in blocks_of(function)
]  # fmt: skip


def name_of(block: Block) -> str:
    return f"{block.function.__qualname__}-{min(block.lines)}"


def test_every_such_comment_is_found() -> None:
    said = sum(
        line.partition("#")[2].lower().count("one step")
        for module in MODULES
        for line in inspect.getsource(module).splitlines()
    )

    assert len(BLOCKS) == said
    assert {block.function.__name__ for block in BLOCKS} == {
        "run", "run_async", "record", "add", "expire", "_take", "_grant",
    }  # fmt: skip


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_no_other_thread_gets_in_between(block: Block) -> None:
    instructions = block.instructions()

    unsafe = [each for each in instructions if not each.opname.startswith(HARMLESS)]
    back = [
        each for each in instructions
        if "JUMP" in each.opname and each.argval < each.offset
    ]  # fmt: skip

    assert len(instructions) > 4
    assert [*unsafe, *back] == []


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_attributes_are_plain_ones(block: Block) -> None:
    """A property, or a `__getattr__`, would be a call that no instruction shows."""
    names = {
        each.argval
        for each in block.instructions()
        if each.opname.startswith(("LOAD_ATTR", "STORE_ATTR"))
    }

    properties = {
        f"{kind.__name__}.{name}"
        for kind in CLASSES
        for name in names
        if isinstance(getattr(kind, name, None), property)
    }

    assert properties == set()
    assert not [kind for kind in CLASSES if hasattr(kind, "__getattr__")]


def settling(function: Any) -> str:
    """The text of a lane from where its function has answered."""
    _, begin, rest = inspect.getsource(function).partition("elapsed = monotonic() - started\n")
    assert begin
    return textwrap.dedent(rest).replace("await call_async(", "call_sync(")


def test_both_lanes_settle_by_the_same_text() -> None:
    assert settling(_lane.run) == settling(_lane.run_async)
