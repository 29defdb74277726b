"""What settings and overrides may be, and how the levels of settings make up a policy."""

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

from apps.core.errors import NotFound, RuleBroken
from apps.policies.rules.hazards import contradictions
from holdfast.spec import OVERRIDE_MODES, PATTERNS, Problem, clean_pattern, effective_pattern

LARGEST_SETTINGS = 65_536  # bytes of JSON of one row: every document of the scope carries it
MOST_NAMED = 5  # calls a refusal names; it counts the rest

Errors = dict[str, list[str]]
Policy = dict[str, dict[str, Any]]


class Calls(NamedTuple):
    """The calls of a service to a dependency; empty means all."""

    service: str
    dependency: str

    def __str__(self) -> str:
        if not self.dependency:
            return "the environment's defaults"
        caller = f"{self.service}'s calls" if self.service else "every service's calls"
        return f"{caller} to {self.dependency}"

    @property
    def levels(self) -> "tuple[Calls, Calls, Calls]":
        """Where settings that hold for them may be, the one that counts most first."""
        return (self, Calls("", self.dependency), Calls("", ""))


class Place(NamedTuple):
    """Where the settings of one pattern are, or could be; empty means all."""

    service: str
    dependency: str
    pattern: str

    @property
    def calls(self) -> Calls:
        return Calls(self.service, self.dependency)


class SettingsPiece(NamedTuple):
    """The settings of one pattern in one scope."""

    service: str
    dependency: str
    pattern: str
    values: Mapping[str, Any]


def clean_values(pattern: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the database holds them; None stays None and means "inherit".

    Raises:
        RuleBroken: unknown names, wrong types, out of bounds; the errors are named by setting.
    """
    rows = PATTERNS[pattern].settings
    given = {key: value for key, value in values.items() if value is not None or key not in rows}
    cleaned, problems = clean_pattern(pattern, given)
    if problems:
        raise RuleBroken("Some settings are not allowed.", errors=errors_of(problems))
    if len(json.dumps(cleaned)) > LARGEST_SETTINGS:
        raise RuleBroken(f"The settings are over {LARGEST_SETTINGS:,} bytes.", code="too_much")
    return {key: cleaned.get(key) for key in rows if key in values}


def errors_of(problems: Iterable[Problem]) -> Errors:
    """Problems of one pattern's values as errors by setting, such as "chain.0.kind"."""
    errors: Errors = {}
    for problem in problems:
        name = problem.path.partition(".")[2]
        errors.setdefault(name, []).append(sentence(problem.detail))
    return errors


def sentence(detail: str) -> str:
    """A problem's detail as a sentence of its own."""
    return f"It {detail}." if detail.startswith(("must", "is ", "can ")) else f"{detail}."


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same as JSON; True and 1 are not."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def effective_policies(pieces: Iterable[SettingsPiece]) -> dict[Calls, Policy]:
    """The merged settings of all calls for which some level sets anything, by whose they are.

    environment ← dependency ← service; the key with both names empty stands for every call
    nothing more is said about.
    """
    levels: dict[Calls, Policy] = {Calls("", ""): {}}
    for piece in pieces:
        level = levels.setdefault(Calls(piece.service, piece.dependency), {})
        level[piece.pattern] = dict(piece.values)
    return {
        calls: merge(
            levels[Calls("", "")],
            levels.get(Calls("", calls.dependency), {}) if calls.dependency else {},
            levels[calls] if calls.service else {},
        )
        for calls in levels
    }


def merge(*levels: Policy) -> Policy:
    """Levels of settings as one, least specific first; lists and maps replace whole."""
    merged: Policy = {}
    for level in levels:
        for pattern, values in level.items():
            merged[pattern] = merged.get(pattern, {}) | values
    return merged


class Shift(NamedTuple):
    """One setting that would change, as services obey it: defaults are filled in."""

    key: str
    before: Any
    after: Any


def shifts(pattern: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Shift]:
    """What of a pattern's settings differs once defaults are filled in, in the table's order."""
    old, new = (
        effective_pattern({pattern: before}, pattern),
        effective_pattern({pattern: after}, pattern),
    )
    return [Shift(key, old[key], new[key]) for key in old if not is_same(old[key], new[key])]


def check_policies(pieces: Iterable[SettingsPiece], edited: frozenset[str]) -> None:
    """Raises RuleBroken where settings of one policy contradict each other.

    The error is under the setting's own name if its pattern alone was `edited`, else under the
    full one, and says whose calls it concerns.
    """
    concerned: dict[tuple[str, str], list[Calls]] = {}
    for calls, policy in sorted(effective_policies(pieces).items()):
        for problem in contradictions(policy):
            name = problem.key if edited == {problem.pattern} else problem.path
            concerned.setdefault((name, problem.detail), []).append(calls)
    if not concerned:
        return
    errors: Errors = {}
    for (name, detail), where in concerned.items():
        more = f" and {len(where) - MOST_NAMED} more" if len(where) > MOST_NAMED else ""
        named = ", ".join(map(str, where[:MOST_NAMED]))
        errors.setdefault(name, []).append(f"For {named}{more} it {detail}.")
    raise RuleBroken("The settings would contradict each other.", errors=errors)


def check_mode(mode: str) -> None:
    """Raises RuleBroken for a mode there is not."""
    if mode not in OVERRIDE_MODES:
        text = f"It must be one of {', '.join(OVERRIDE_MODES)}."
        raise RuleBroken("There is no such mode.", errors={"mode": [text]})


def check_pattern(name: str, known: Container[str]) -> None:
    """Raises NotFound for a pattern that cannot be set in this version."""
    if name not in known:
        raise NotFound("There is no such pattern.")


def check_names_dependency(dependency: object) -> None:
    """Raises RuleBroken for a scope that is a whole environment."""
    if dependency is None:
        text = "Name the dependency it is for."
        raise RuleBroken(text, errors={"dependency": [text]})


def left_out_of(settings: Mapping[str, Mapping[str, Any]], held: Container[str]) -> list[str]:
    """Full names of the settings whose pattern is not among those `held`."""
    return [
        f"{pattern}.{key}"
        for pattern, values in settings.items()
        if pattern not in held
        for key in values
    ]
