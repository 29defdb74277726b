"""When Redis fails: a commit is hardly held up, and afterwards news flows again."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from apps.core.bus import GIVE_UP_SECONDS, Bus
from apps.core.loops import Loop
from deploy.local_servers import Redis


@contextmanager
def listening(bus: Bus) -> Iterator[Loop]:
    """The loop of a web process that hands over what others announce."""
    loop = Loop("bus", bus.listen, every=0.1)
    loop.start()
    try:
        yield loop
    finally:
        loop.stop()


class Heard:
    """A callback that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.data: list[object] = []
        self._event = threading.Event()

    def __call__(self, data: object) -> None:
        self.data.append(data)
        self._event.set()

    def wait(self, seconds: float) -> bool:
        came = self._event.wait(seconds)
        self._event.clear()
        return came


def test_a_hung_redis_holds_a_commit_up_once_and_briefly() -> None:
    with Redis() as redis:
        bus, heard = Bus(redis.url), Heard()
        bus.subscribe("published", heard)
        bus.send("published", {})
        redis.pause()
        took = []
        for _ in range(10):
            started = time.monotonic()
            bus.send("published", {})
            took.append(time.monotonic() - started)
        redis.resume()

    assert max(took) < GIVE_UP_SECONDS + 0.15
    assert sum(took) < 2 * (GIVE_UP_SECONDS + 0.15)
    assert len(heard.data) == 11  # this process hears itself all the same


def test_news_flows_again_after_redis_was_killed() -> None:
    with Redis() as redis:
        mine, theirs, heard = Bus(redis.url), Bus(redis.url), Heard()
        theirs.subscribe("published", heard)
        with listening(theirs) as loop:
            deadline = time.monotonic() + 30
            while not heard.wait(0.1) and time.monotonic() < deadline:
                mine.send("published", {"before": True})
            redis.kill()
            mine.send("published", {"lost": True})
            redis.start()
            heard.data.clear()
            while {"after": True} not in heard.data and time.monotonic() < deadline:
                mine.send("published", {"after": True})
                heard.wait(0.1)

    assert {"after": True} in heard.data
    assert loop.restarts >= 1
