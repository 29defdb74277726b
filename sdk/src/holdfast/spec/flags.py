"""Degradation flags and breaker overrides: their members, how levels merge, who is rolled out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from holdfast.spec.cleaning import Problem, Refused, check_json, clean_item
from holdfast.spec.rows import Setting

FLAG_KINDS = ("read_only", "fallback", "feature_off", "custom")
FLAG_SCOPES = ("environment", "service")
ON_STALE = ("hold", "revert")
OVERRIDE_MODES = ("force_open", "force_closed", "disabled", "metrics_only")
OVERRIDE_LEASE_SECONDS = 1_800.0
MOST_DEPENDENCIES = 1_000

_FLAG_ROWS = {
    row.key: row
    for row in (
        Setting(
            key="kind", type="choice", default="custom", choices=FLAG_KINDS,
            help="What engaging the flag does to the services in its scope.",
        ),
        Setting(
            key="scope", type="choice", default="environment", choices=FLAG_SCOPES,
            help="Whether it holds for every service of the environment, or for one.",
        ),
        Setting(
            key="enabled", type="bool", default=False, help="Whether the flag is engaged.",
        ),
        Setting(
            key="percentage", type="number", default=100.0, minimum=0.0, maximum=100.0, unit="%",
            help="Share of keys a custom flag is engaged for, in hundredths of a percent.",
        ),
        Setting(
            key="on_stale", type="choice", default="hold", choices=ON_STALE,
            help="What becomes of it when Holdfast has not been heard for too long.",
        ),
    )
}  # fmt: skip
_MODE = Setting(
    key="mode", type="choice", default="force_open", choices=OVERRIDE_MODES,
    help="Reject every call, admit every call, leave the breaker out, or only measure.",
)  # fmt: skip


def flag_bucket(flag: str, key: str) -> int:
    """Bucket 0 to 9,999 of a key for one flag: the same in every process and language.

    First 8 bytes, big-endian, of SHA-256 over `<flag>:<key>` in UTF-8, modulo 10,000.
    """
    digest = hashlib.sha256(f"{flag}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 10_000


def in_rollout(flag: str, key: str, percentage: float) -> bool:
    """Whether a key is among the `percentage` (0 to 100, two decimals count) of a flag."""
    return flag_bucket(flag, key) < round(percentage * 100)


def clean_flag(
    entry: Mapping[str, Any], path: str = "flag"
) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """A flag entry of a document with defaults filled in, and what is wrong with it.

    Unknown members are dropped, not refused: newer servers may send more.
    """
    cleaned, problems = _clean_rows(_FLAG_ROWS, entry, path, required=("kind", "enabled"))
    cleaned["value"] = entry.get("value")
    try:
        check_json(cleaned["value"], f"{path}.value")
    except Refused as refused:
        problems.extend(refused.problems)
    cleaned["dependencies"] = entry.get("dependencies")
    problems += _dependency_problems(cleaned["dependencies"], f"{path}.dependencies")
    problems += _clean_shared(entry, cleaned, path)
    return cleaned, tuple(problems)


def clean_override(
    entry: Mapping[str, Any], path: str = "override"
) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """An override entry of a document, and what is wrong with it. Unknown members are dropped."""
    cleaned, problems = _clean_rows({"mode": _MODE}, entry, path, required=("mode",))
    problems += _clean_shared(entry, cleaned, path)
    return cleaned, tuple(problems)


def merge_flags(levels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One entry out of the levels' entries of one key, least specific first.

    Custom flags: the most specific level wins. Other kinds: engaged if engaged at any level, with
    the latest end; an engaged fallback flag covers the dependencies of all engaged levels.

    Raises:
        IndexError: there is no level.
    """
    engaged = [entry for entry in levels if entry["kind"] != "custom" and entry["enabled"]]
    if not engaged:
        return dict(levels[-1])
    merged = _latest(engaged)
    named = [entry.get("dependencies") for entry in engaged]
    everything = any(names is None for names in named)
    union = {name for names in named for name in names or ()}
    merged["dependencies"] = None if everything else sorted(union)
    return merged


def merge_overrides(levels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The override in force out of the levels', least specific first.

    force_open beats every other mode, with the latest end; else the most specific level wins.

    Raises:
        IndexError: there is no level.
    """
    forced = [entry for entry in levels if entry["mode"] == "force_open"]
    return _latest(forced) if forced else dict(levels[-1])


def instant(text: str) -> datetime:
    """An aware instant from RFC 3339 text.

    Raises:
        ValueError: not such text, or without an offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no offset from UTC")
    return moment


def _latest(levels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    latest = max(reversed(levels), key=_end_of)  # of equal ends the most specific
    return dict(latest)


def _end_of(entry: Mapping[str, Any]) -> float:
    end = entry.get("expires_at")
    return float("inf") if end is None else instant(end).timestamp()


def _clean_rows(
    rows: Mapping[str, Setting], entry: Mapping[str, Any], path: str, required: tuple[str, ...]
) -> tuple[dict[str, Any], list[Problem]]:
    cleaned: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, row in rows.items():
        if key in required and key not in entry:
            problems.append(Problem(f"{path}.{key}", "missing", "is required"))
            continue
        try:
            cleaned[key] = clean_item(row, entry.get(key, row.default), f"{path}.{key}")
        except Refused as refused:
            problems.extend(refused.problems)
    return cleaned, problems


def _clean_shared(
    entry: Mapping[str, Any], cleaned: dict[str, Any], path: str
) -> tuple[Problem, ...]:
    problems = []
    for key in ("reason", "set_by", "set_at", "id"):
        value = entry.get(key)
        if value is not None and not isinstance(value, str | int):
            problems.append(Problem(f"{path}.{key}", "wrong_type", "must be text"))
        cleaned[key] = value
    cleaned["expires_at"] = entry.get("expires_at")
    if not _is_instant(cleaned["expires_at"]):
        detail = "must be an instant such as 2026-11-22T14:03:07Z, or null"
        problems.append(Problem(f"{path}.expires_at", "wrong_type", detail))
    return tuple(problems)


def _is_instant(value: object) -> bool:
    if value is None:
        return True
    try:
        instant(value)  # type: ignore[arg-type]  # anything may arrive; TypeError is the answer
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _dependency_problems(names: object, path: str) -> tuple[Problem, ...]:
    if names is None:
        return ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return (Problem(path, "wrong_type", "must be a list of names, or null for all"),)
    if len(names) > MOST_DEPENDENCIES:
        return (Problem(path, "too_many", f"must have at most {MOST_DEPENDENCIES} names"),)
    return ()
