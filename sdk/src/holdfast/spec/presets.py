"""Settings known to suit well-known dependencies, each with the check that watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

CHECK_KINDS = ("http", "postgresql", "redis", "rabbitmq", "celery")


@dataclass(frozen=True, kw_only=True)
class PresetCheck:
    """The health check that comes with a preset.

    Attributes:
        write_probe: Whether it also tries a write, to notice a read-only primary.
    """

    kind: str
    write_probe: bool = False


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings for one kind of dependency; everything not named keeps its default.

    Attributes:
        settings: Pattern → setting → value, valid as they stand.
    """

    key: str
    title: str
    check: PresetCheck
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_HTTP = PresetCheck(kind="http")
_SIMPLE_REPLY = "I cannot answer that right now. Please try again in a few minutes."


def _broker(key: str, title: str, kind: str) -> Preset:
    settings: dict[str, dict[str, Any]] = {
        "timeout": {"attempt_seconds": 2.0},
        "retry": {"attempts": 3},
        "breaker": {"open_seconds": 5.0},
    }
    return Preset(key=key, title=title, settings=settings, check=PresetCheck(kind=kind))


_ALL = (
    Preset(
        key="alpaca",
        title="Alpaca",
        settings={
            "breaker": {"consecutive_failures": 5},
            "timeout": {"attempt_seconds": 30.0},
            "retry": {"attempts": 4, "base_seconds": 1.0},
        },
        check=_HTTP,
    ),
    Preset(
        key="gemini",
        title="Gemini",
        settings={
            "breaker": {"consecutive_failures": 3},
            "timeout": {"attempt_seconds": 45.0},
            "retry": {"attempts": 3, "base_seconds": 2.0},
        },
        check=_HTTP,
    ),
    Preset(
        key="deepseek",
        title="DeepSeek",
        settings={
            "breaker": {"consecutive_failures": 3},
            "timeout": {"attempt_seconds": 45.0},
            "retry": {"attempts": 3, "base_seconds": 2.0},
            "fallback": {"chain": [{"kind": "value", "value": _SIMPLE_REPLY}]},
        },
        check=_HTTP,
    ),
    Preset(
        key="green-api",
        title="Green API (WhatsApp)",
        settings={
            "breaker": {"consecutive_failures": 5},
            "timeout": {"attempt_seconds": 30.0},
            "retry": {"attempts": 3},
            "fallback": {"chain": [{"kind": "queue"}]},
        },
        check=_HTTP,
    ),
    Preset(
        key="binance",
        title="Binance",
        settings={
            "breaker": {"consecutive_failures": 5},
            "timeout": {"attempt_seconds": 10.0},
            "retry": {"attempts": 3},
            "rate_limit": {"enabled": True, "calls": 20, "per_seconds": 1.0},
        },
        check=_HTTP,
    ),
    Preset(
        key="ml-service",
        title="ML service",
        settings={
            "breaker": {
                "consecutive_failures": 5,
                "half_open_successes": 2,
                "open_seconds": 60.0,
            },
            "timeout": {"attempt_seconds": 60.0},
            "retry": {"attempts": 3, "base_seconds": 2.0},
        },
        check=_HTTP,
    ),
    Preset(
        key="postgres",
        title="PostgreSQL",
        settings={"timeout": {"attempt_seconds": 10.0}, "bulkhead": {"max_concurrent": 20}},
        check=PresetCheck(kind="postgresql", write_probe=True),
    ),
    _broker("redis", "Redis", "redis"),
    _broker("rabbitmq", "RabbitMQ", "rabbitmq"),
    _broker("celery", "Celery", "celery"),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.key: preset for preset in _ALL})
