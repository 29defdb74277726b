"""Error recovery: what is done about errors that repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRule:
    """One rule; members as `holdfast.spec` has them."""

    match: str
    action: str
    attempts: int = 1
    delay_seconds: float = 0.0
    cooldown_seconds: float = 60.0
    isolate_seconds: float = 300.0


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
