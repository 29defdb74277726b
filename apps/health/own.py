"""What Holdfast itself needs: its database, Redis, RabbitMQ, workers. Asked now, within a deadline.

Each answer is remembered for a moment, so that a crowd of probes asks a server once.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _
from redis import exceptions

from apps.core import clock
from apps.health import prober, rules
from apps.health.models import Pulse
from apps.health.probes import postgresql, rabbitmq, redis
from apps.health.probes.network import Stopwatch
from apps.health.probes.outcomes import Outcome, Refused, failed, fine
from apps.health.targets import Target

WITHIN_SECONDS = 2.0  # the deadline of one look
PATIENCE = 0.5  # beyond it, on a busy machine
REMEMBERED_SECONDS = 1.0
PULSE_LATE_SECONDS = 30.0  # without a pulse, which comes every five seconds
QUEUE = "celery"  # where our own workers take their tasks from
Look = Callable[[], Awaitable[Outcome]]


@dataclass(frozen=True)
class Answer:
    """How one part is: pass, warn or fail, and what was measured."""

    kind: str  # component or datastore
    status: str
    output: str = ""
    latency: float | None = None  # seconds
    facts: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=clock.now)


class Part:
    """Something Holdfast needs. `look` gives the question to ask of it, None if it is not used."""

    def __init__(self, kind: str, look: Callable[[], Look | None], unused: str = "") -> None:
        self.kind = kind  # component or datastore
        self._look = look
        self._unused = unused
        self._lock = threading.Lock()
        self._known: tuple[float, Answer] | None = None

    def answer(self) -> Answer:
        """How it is, within `WITHIN_SECONDS` or a little more; never raises."""
        if not self._lock.acquire(timeout=WITHIN_SECONDS + PATIENCE):
            return Answer(self.kind, "fail", _("no answer in time"))
        try:
            if self._known is None or time.monotonic() - self._known[0] > REMEMBERED_SECONDS:
                self._known = (time.monotonic(), self._ask())
            return self._known[1]
        finally:
            self._lock.release()

    def _ask(self) -> Answer:
        look = self._look()
        if look is None:
            return Answer(self.kind, "pass", self._unused)
        try:
            found = prober.current.ask(look, within=WITHIN_SECONDS).result(
                timeout=WITHIN_SECONDS + PATIENCE
            )
        except FutureTimeout:
            found = failed(_("no answer in time"))
        status = {rules.OK: "pass", rules.IMPAIRED: "warn", rules.FAILED: "fail"}[found.mark]
        return Answer(self.kind, status, found.detail, found.latency, found.facts)


def _database() -> Look:
    return _sqlite if settings.ON_SQLITE else _postgresql


async def _sqlite() -> Outcome:
    """Read from a connection of our own; a disk that is full shows with the next write."""
    return await asyncio.to_thread(_read_sqlite, str(connection.settings_dict["NAME"]))


def _read_sqlite(name: str) -> Outcome:
    watch = Stopwatch()
    try:
        address = name if name.startswith("file:") else f"{Path(name).as_uri()}?mode=ro"
        base = sqlite3.connect(address, uri=True, timeout=WITHIN_SECONDS)
        try:
            (pages,) = base.execute("PRAGMA page_count").fetchone()
            (size,) = base.execute("PRAGMA page_size").fetchone()
            base.execute("SELECT 1 FROM django_migrations LIMIT 1").fetchone()
        finally:
            base.close()
    except sqlite3.Error as error:
        raise Refused(_("the database file cannot be read")) from error
    return fine(watch.seconds, size_bytes=pages * size)


async def _postgresql() -> Outcome:
    known = connection.settings_dict
    watch = Stopwatch()
    options = {
        name: value
        for name, value in known.get("OPTIONS", {}).items()
        if name.startswith("ssl") and isinstance(value, str)
    }
    return await postgresql.ask(
        watch,
        write=True,
        host=known["HOST"] or None,
        port=known["PORT"] or None,
        user=known["USER"] or None,
        password=known["PASSWORD"] or None,
        dbname=known["NAME"],
        connect_timeout=int(WITHIN_SECONDS),
        **options,
    )


def _redis() -> Look | None:
    return _ask_redis if settings.REDIS_URL else None


async def _ask_redis() -> Outcome:
    return await redis.ask(_redis_at(settings.REDIS_URL), Stopwatch(), key="holdfast:health")


def _redis_at(url: str) -> Any:
    """A client of one of our own addresses, which may carry its password."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    return redis.connect(
        host,
        parts.port or 6379,
        db=int(parts.path.strip("/") or 0),
        username=unquote(parts.username or "") or None,
        password=unquote(parts.password or "") or None,
        timeout=WITHIN_SECONDS,
        name=host if parts.scheme == "rediss" else "",
    )


def _rabbitmq() -> Look | None:
    url = settings.RABBITMQ_URL or settings.CELERY_BROKER_URL
    return (lambda: rabbitmq.probe(_target(url))) if url.startswith("amqp") else None


def _target(url: str, **options: str) -> Target:
    """One of our own addresses as a target: its password apart."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    path = "/%2F" if parts.path in {"", "/", "//"} else parts.path
    address = f"{parts.scheme}://{user}{place}{path}"
    return Target("rabbitmq", address, unquote(parts.password or ""), options, WITHIN_SECONDS)


def _workers() -> Look | None:
    """The broker, and the length of our queue in it; embedded there is none but memory."""
    url = settings.CELERY_BROKER_URL
    if url.startswith("redis"):
        return _ask_broker
    if url.startswith("amqp"):
        return lambda: rabbitmq.probe(_target(url, queue=QUEUE))
    return None


async def _ask_broker() -> Outcome:
    client, watch = _redis_at(settings.CELERY_BROKER_URL), Stopwatch()
    try:
        length = await client.llen(QUEUE)
    except exceptions.RedisError as error:
        raise Refused(redis.named_redis(error)) from error
    finally:
        await client.aclose(close_connection_pool=True)
    return fine(watch.seconds, queue_length=length)


PARTS: Mapping[str, Part] = {
    "db": Part("datastore", _database),
    "redis": Part("datastore", _redis, "not used: embedded, or REDIS_URL is not set"),
    "rabbitmq": Part("component", _rabbitmq, "not used: RABBITMQ_URL is not set"),
    "celery": Part("component", _workers),
}
STARTED_AT = time.monotonic()


def answer_of(name: str) -> Answer:
    """How one of `PARTS` is; of Celery also whether its worker gets anything done."""
    found = PARTS[name].answer()
    if name != "celery" or found.status == "fail":
        return found
    return _with_pulse(found)


def _with_pulse(broker: Answer) -> Answer:
    if PARTS["db"].answer().status == "fail":  # where workers leave their pulse
        text = _("not known: the database does not answer")
        return Answer(broker.kind, "warn", text, facts=broker.facts)
    beat_at = Pulse.objects.filter(name="celery").values_list("at", flat=True).first()
    if beat_at is None:
        is_young = time.monotonic() - STARTED_AT < 2 * PULSE_LATE_SECONDS
        return Answer(broker.kind, "warn" if is_young else "fail", _("no pulse of a worker yet"))
    age = max(0.0, (clock.now() - beat_at).total_seconds())
    status = "fail" if age > PULSE_LATE_SECONDS else broker.status
    text = _("no pulse of a worker for %d s") % age if status == "fail" else broker.output
    facts = {**broker.facts, "pulse_age_seconds": round(age, 1)}
    return Answer(broker.kind, status, text, broker.latency, facts)
