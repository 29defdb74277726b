"""What the client's tests share: a clock they move, an engine that remembers, documents."""

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from holdfast._document import Document, Received
from holdfast._report import Identity
from holdfast._settings import Settings, Timing
from holdfast.clock import Clock

TOKEN = "hf_abcdefghijkl_" + "S3cretS3cretS3cretS3cretS3cretS3cretS3cret0"
EPOCH = "5f0c0000-0000-4000-8000-000000000001"
OTHER_EPOCH = "77aa0000-0000-4000-8000-000000000002"
SERVER_TIME = 1_800_000_000.0

QUICK = Timing(
    poll_seconds=0.05,
    report_seconds=0.05,
    jitter=0.1,
    backoff_seconds=0.05,
    backoff_max_seconds=0.1,
    refused_seconds=0.05,
    silence_seconds=5.0,
    acknowledge_seconds=0.02,
    acknowledge_gap_seconds=0.02,
    request_seconds=2.0,
    close_seconds=2.0,
    adopt_seconds=0.05,
    claim_wait_seconds=0.2,
    claim_gap_seconds=0.05,
)
"""Waits short enough for a test that runs real threads against a real server."""


class FakeClock(Clock):
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.wall_now = SERVER_TIME

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.wall_now

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall_now += seconds


class RecordingEngine:
    """Stands where the engine stands, and remembers what it was given."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self.received: list[Received] = []
        self.stale: list[bool] = []
        self.collected: dict[str, Any] = {"dependencies": {}, "events": []}

    def apply(self, document: Document, received: Received) -> None:
        self.documents.append(document)
        self.received.append(received)

    def set_stale(self, stale: bool) -> None:
        self.stale.append(stale)

    def held(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def collect(self) -> dict[str, Any]:
        collected, self.collected = self.collected, {"dependencies": {}, "events": []}
        return collected

    @property
    def revisions(self) -> list[int]:
        return [document.revision for document in self.documents]


def document(
    revision: int = 1,
    *,
    epoch: str = EPOCH,
    flags: dict[str, Any] | None = None,
    dependencies: dict[str, Any] | None = None,
    stale_after: float = 300,
    service: str = "checkout",
) -> dict[str, Any]:
    """A document as the control plane would answer it."""
    meta = {
        "schema": 1,
        "epoch": epoch,
        "revision": revision,
        "environment": "production",
        "service": service,
        "published_at": "2026-11-22T14:03:07Z",
        "stale_after_seconds": stale_after,
    }
    return {"meta": meta, "flags": flags or {}, "dependencies": dependencies or {}}


def flag(
    kind: str = "read_only", *, expires_at: float | None = None, on_stale: str = "hold"
) -> dict[str, Any]:
    """An engaged flag; `expires_at` is a UTC timestamp."""
    return {
        "kind": kind,
        "scope": "environment",
        "dependencies": None,
        "enabled": True,
        "value": None,
        "percentage": 100,
        "reason": "primary failing over",
        "set_by": "ana",
        "set_at": "2026-11-22T14:00:00Z",
        "expires_at": None if expires_at is None else iso(expires_at),
        "on_stale": on_stale,
    }


def iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat().replace("+00:00", "Z")


def encode(body: object) -> bytes:
    return msgspec.json.encode(body)


def identity() -> Identity:
    return Identity(
        service="checkout",
        instance="7f8e8a1c-0000-4000-8000-000000000001",
        name="host:1",
        sdk="holdfast-python/0.1.0",
        started_at="2026-11-22T14:00:00Z",
    )


def received(clock: Clock, server_time: float = SERVER_TIME) -> Received:
    return Received(monotonic=clock.monotonic(), server_time=server_time)


def settings(url: str = "http://127.0.0.1:9", **changes: Any) -> Settings:
    given = {"token": TOKEN, "service": "checkout", "cache_dir": None, "problem": None} | changes
    return Settings(url=url, **given)


def eventually(condition: Callable[[], object], *, seconds: float = 10.0, what: str = "") -> None:
    """Wait until something is true; fail once the deadline has passed."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(what or "it did not happen in time")
        pause.wait(0.005)
