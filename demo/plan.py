"""What the demo consists of, and when its dependencies fail by themselves."""

import random
from dataclasses import dataclass
from typing import Any

ENVIRONMENT = "demo"
FOLDER = "demo"  # below `var/`: tokens, the address of the fakes, caches of the services
SEED = 7
CALM = "calm"  # said to the fakes: no outage by itself


@dataclass(frozen=True, kw_only=True)
class Outage:
    """Once every `every` seconds, at a moment that differs from time to time, for `lasts`."""

    every: float
    lasts: float
    is_slow: bool = False  # it answers, but ten times as slowly; else it answers 503


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """A stand-in of something well known; its name is also its preset's."""

    slug: str
    description: str
    seconds: float  # typical latency
    errors: float = 0.005  # share of calls that fail on an ordinary day
    outage: Outage | None = None


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service; each of its requests calls some of its dependencies in turn."""

    slug: str
    description: str
    processes: int
    requests_per_second: float  # of each process
    calls: tuple[tuple[str, float], ...]  # dependency, and the share of requests that call it


DEPENDENCIES = (
    Dependency(slug="postgres", description="orders and accounts", seconds=0.006, errors=0.0),
    Dependency(slug="redis", description="sessions and carts", seconds=0.002, errors=0.0),
    Dependency(
        slug="alpaca",
        description="brokerage API",
        seconds=0.08,
        errors=0.01,
        outage=Outage(every=300, lasts=45),
    ),
    Dependency(
        slug="binance",
        description="exchange API",
        seconds=0.05,
        outage=Outage(every=420, lasts=40, is_slow=True),
    ),
    Dependency(
        slug="gemini",
        description="answers of a large model",
        seconds=0.5,
        errors=0.02,
        outage=Outage(every=240, lasts=50),
    ),
    Dependency(slug="deepseek", description="answers of another model", seconds=0.4, errors=0.02),
    Dependency(
        slug="green-api",
        description="WhatsApp messages",
        seconds=0.15,
        errors=0.01,
        outage=Outage(every=180, lasts=30),
    ),
)
SERVICES = (
    Service(
        slug="checkout",
        description="takes orders",
        processes=2,
        requests_per_second=1.0,
        calls=(("redis", 1.0), ("postgres", 1.0), ("green-api", 0.3)),
    ),
    Service(
        slug="trading",
        description="quotes and orders at the exchanges",
        processes=2,
        requests_per_second=1.0,
        calls=(("postgres", 0.5), ("alpaca", 0.8), ("binance", 0.8)),
    ),
    Service(
        slug="assistant",
        description="answers customers' questions",
        processes=1,
        requests_per_second=0.8,
        calls=(("redis", 1.0), ("gemini", 0.7), ("deepseek", 0.5)),
    ),
    Service(
        slug="notifications",
        description="sends messages",
        processes=1,
        requests_per_second=0.8,
        calls=(("postgres", 1.0), ("green-api", 1.0)),
    ),
)
SIMPLE_REPLY = "Our assistant is resting. A person will answer you today."
# Beside the presets, so that there is something to see within seconds.
BREAKER: dict[str, Any] = {"minimum_calls": 10, "open_seconds": 8.0, "open_max_seconds": 20.0}
RETRY: dict[str, Any] = {"max_seconds": 2.0}
CHECK: dict[str, Any] = {"interval_seconds": 5, "retry_seconds": 1, "failures_to_confirm": 2}
DEADLINE = 10.0  # seconds a service gives a call with all its attempts
FALLBACKS: dict[str, list[dict[str, Any]]] = {
    "gemini": [
        {"kind": "cached", "max_age_seconds": 20.0},
        {"kind": "value", "value": SIMPLE_REPLY},
    ],
}
# What becomes of a call that failed for good: the handler its letters come back to when an operator
# redrives them.
LETTERS = {"green-api": "send-message", "alpaca": "place-order"}
FLAG = "simple-replies"  # of kind fallback, for the two models


def is_out(dependency: Dependency, elapsed: float, seed: int = SEED) -> bool:
    """Whether it is failing by itself, so many seconds after the start; the same for each seed."""
    outage = dependency.outage
    if outage is None:
        return False
    turn, at = divmod(elapsed, outage.every)
    chosen = random.Random(f"{seed} {dependency.slug} {turn:.0f}")
    begins = chosen.uniform(outage.every * 0.15, outage.every - outage.lasts)
    return begins <= at < begins + outage.lasts
