"""News between the threads and processes of one Holdfast: "environment 3 is at revision 812".

News only wakes; it never carries state. Every listener also looks by itself every two seconds,
so a lost message costs at most that. Within a process, callbacks run on the web process's event
loop, handed over with `call_soon_threadsafe`: the loop may be idle in another thread. With
`REDIS_URL` set, news also travels by Redis publish/subscribe.
"""

import asyncio
import json
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import redis
import structlog
from django.conf import settings
from django.db import transaction
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.retry import Retry

log = structlog.get_logger(__name__)

Callback = Callable[[dict[str, Any]], None]
GIVE_UP_SECONDS = 0.2  # a hung Redis must not turn a committed change into an error
PAUSE_SECONDS = 1.0  # after that, the commits of the next second do not even try
LISTEN_SECONDS = 5.0  # without a sign of life from Redis before we connect anew
CHANNEL = "holdfast.news"
# Linux gives a connection up when what we sent (the ping) was not acknowledged for so long.
_UNACKNOWLEDGED = {socket.TCP_USER_TIMEOUT: 10_000} if hasattr(socket, "TCP_USER_TIMEOUT") else {}


class Bus:
    """Topics and their listeners in this process, and the way to those in other processes."""

    def __init__(self, redis_url: str = "") -> None:
        self.origin = uuid.uuid4().hex
        self._callbacks: dict[str, list[tuple[Callback, bool]]] = defaultdict(list)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._redis = None
        self._silent_until = 0.0  # by the monotonic clock
        if redis_url:
            # The library would try again for seconds; here the next message is the next try.
            once = Retry(NoBackoff(), 0)
            self._redis = redis.Redis.from_url(
                redis_url,
                socket_timeout=GIVE_UP_SECONDS,
                socket_connect_timeout=GIVE_UP_SECONDS,
                retry=once,
            )
            self._listening = redis.Redis.from_url(
                redis_url,
                socket_timeout=LISTEN_SECONDS,
                socket_connect_timeout=2.0,
                health_check_interval=LISTEN_SECONDS,  # a ping, so that a dead peer is noticed
                socket_keepalive=True,
                socket_keepalive_options=_UNACKNOWLEDGED,
                retry=once,
            )

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Run callbacks on `loop` from now on; None: in the announcer's thread."""
        self._loop = loop

    def subscribe(
        self, topic: str, callback: Callback, *, on_loop: bool = True
    ) -> Callable[[], None]:
        """Call `callback` with each announcement of `topic`; it must return at once.

        With `on_loop` False it is called in the thread that announces, a hop earlier: for what
        is safe in any thread, such as waking one.

        Returns a function that ends the subscription.
        """
        with self._lock:
            self._callbacks[topic].append((callback, on_loop))

        def cancel() -> None:
            with self._lock:
                if (callback, on_loop) in self._callbacks[topic]:
                    self._callbacks[topic].remove((callback, on_loop))

        return cancel

    def announce(self, topic: str, **data: Any) -> None:
        """Tell every listener, here and in other processes, once this transaction is committed."""
        transaction.on_commit(lambda: self.send(topic, data), robust=True)

    def send(self, topic: str, data: dict[str, Any]) -> None:
        """Tell now. Never raises for an unreachable Redis: the two-second look heals it."""
        self._hand_over(topic, data)
        if self._redis is None or time.monotonic() < self._silent_until:
            return
        message = json.dumps({"origin": self.origin, "topic": topic, "data": data})
        try:
            self._redis.publish(CHANNEL, message)
        except redis.RedisError as error:
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            log.warning("bus.send_failed", topic=topic, error=type(error).__name__)

    def listen(self, stopping: threading.Event) -> None:
        """Hand over what other processes announce, until `stopping`; for a supervised loop."""
        if self._redis is None:
            return
        pubsub: PubSub = self._listening.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # untyped library
        with pubsub:
            pubsub.subscribe(CHANNEL)
            while not stopping.is_set():
                message = pubsub.get_message(timeout=1.0)
                if message is not None:
                    news = json.loads(message["data"])
                    if news["origin"] != self.origin:
                        self._hand_over(news["topic"], news["data"])

    def _hand_over(self, topic: str, data: dict[str, Any]) -> None:
        with self._lock:
            callbacks = list(self._callbacks[topic])
        for callback, on_loop in callbacks:
            if not on_loop or self._loop is None or self._loop.is_closed():
                callback(data)
            else:
                self._loop.call_soon_threadsafe(callback, data)


_bus: Bus | None = None


def get() -> Bus:
    """This process's bus."""
    global _bus
    if _bus is None:
        _bus = Bus(settings.REDIS_URL)
    return _bus


def announce(topic: str, **data: Any) -> None:
    """`Bus.announce` on this process's bus."""
    get().announce(topic, **data)


def subscribe(topic: str, callback: Callback, *, on_loop: bool = True) -> Callable[[], None]:
    """`Bus.subscribe` on this process's bus."""
    return get().subscribe(topic, callback, on_loop=on_loop)
