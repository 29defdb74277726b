"""GET and HEAD of a service's document without a view and without SQL, in front of Django.

The view behind it gives the same answers, by the same function; it is what serves under another
server than ours. With `?wait=` and a document the client has, the gate holds its answer back until
there is a newer one: for clients that cannot keep a stream open.
"""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace

import structlog

from apps.core import clock
from apps.core.bodies import Application, Receive, Scope, Send
from apps.core.replies import Reply, send_reply
from apps.delivery import door
from apps.delivery.answers import Asked, answer, key_of, log_denial, wait_of
from apps.delivery.state import State, Watched

log = structlog.get_logger(__name__)

PATH = re.compile(r"^/api/v1/policies/(?P<service>[^/]+)/?$")
MOST_WAITING = 2_000  # in this process; more are answered at once
LOG_SECONDS = 60.0
MOST_KINDS = 1_000  # of requests that are told apart in the log

Observe = Callable[[str, str, int, float], None]
"""Told of each request: name of the view, method, status, seconds."""


class PolicyGate:
    """An ASGI application for the path of documents.

    Args:
        django: Gets every request but GET and HEAD, and those to a host that is not ours.
        known: What this process serves.
        observe: Counts requests, as Django's middleware would.
    """

    def __init__(self, django: Application, known: State, observe: Observe) -> None:
        self._django = django
        self._state = known
        self._observe = observe
        self._waiting: dict[Watched, set[asyncio.Event]] = defaultdict(set)
        self._answered = AccessLog()
        self._stop_listening: Callable[[], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        asked = self._asked(scope)
        if asked is None:
            await self._django(scope, receive, send)
            return
        answered = answer(asked, await door.snapshot_for(self._state, asked.token))
        if asked.wait and answered[0] == 304:
            answered = await self._hold(asked, answered, receive)
        self._note(asked, answered[0], time.perf_counter() - began)
        await send_reply(send, answered)

    def at_once(self, scope: Scope) -> Reply | None:
        """The answer to a request that nothing need be waited for; None: call the application."""
        began = time.perf_counter()
        asked = self._asked(scope)
        if asked is None or asked.wait or self._state.needs_lookup(asked.token):
            return None
        answered = answer(asked, self._state.snapshot)
        self._note(asked, answered[0], time.perf_counter() - began)
        return answered

    def _asked(self, scope: Scope) -> Asked | None:
        """What is asked of us; None if it is Django's to answer."""
        match = PATH.match(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
        if match is None:
            return None
        headers = door.headers_of(scope)
        if not door.is_allowed_host(headers.get("host", "")):
            return None
        return door.asked_of(scope, headers, match.group("service"))

    def start(self) -> None:
        """Follow the state from now on; called on the loop that serves."""
        call = asyncio.get_running_loop().call_soon_threadsafe
        self._stop_listening = self._state.listen(
            lambda watched: call(self._wake, watched), lambda: call(self._wake_all)
        )

    def drain(self) -> None:
        """Answer everybody who waits."""
        self._wake_all()

    def stop(self) -> None:
        self._answered.write()
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None

    def _note(self, asked: Asked, status: int, seconds: float) -> None:
        selector = asked.token[0] if asked.token else ""
        if status < 400:
            self._state.note_use(selector)
        log_denial(asked, status)
        self._observe("policy", asked.method, status, seconds)
        self._answered.add(status, asked.service if status < 400 else "", selector)

    # --- those who wait -----------------------------------------------------------------------

    async def _hold(self, asked: Asked, answered: Reply, receive: Receive) -> Reply:
        """Wait for news of the document, and answer again."""
        snapshot = self._state.snapshot
        key = key_of(asked.token, snapshot, asked.now) if snapshot else None
        if key is None or sum(map(len, self._waiting.values())) >= MOST_WAITING:
            return answered
        watched, news = (key.environment_id, asked.service), asyncio.Event()
        self._state.watch(watched)
        self._waiting[watched].add(news)
        leaving = asyncio.create_task(_until_gone(receive, news))
        try:
            async with asyncio.timeout(wait_of(asked) or 0.0):
                while answered[0] == 304 and not (self._state.is_draining or leaving.done()):
                    await news.wait()
                    news.clear()
                    answered = self._again(asked)
        except TimeoutError:
            answered = self._again(asked)
        finally:
            leaving.cancel()
            self._state.unwatch(watched)
            self._waiting[watched].discard(news)
            if not self._waiting[watched]:
                del self._waiting[watched]
        return answered

    def _again(self, asked: Asked) -> Reply:
        asked = replace(asked, now=clock.now(), monotonic=time.monotonic())
        return answer(asked, self._state.snapshot)

    def _wake(self, watched: Watched) -> None:
        for news in self._waiting.get(watched, ()):
            news.set()

    def _wake_all(self) -> None:
        for watched in list(self._waiting):
            self._wake(watched)


class AccessLog:
    """One line a minute for each kind of request, and not one for each poll of each process."""

    def __init__(self) -> None:
        self._kinds: Counter[tuple[int, str, str]] = Counter()
        self._since = time.monotonic()

    def add(self, status: int, service: str, selector: str) -> None:
        kind = (status, service, selector)
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            kind = (status, "", "")
        self._kinds[kind] += 1
        if time.monotonic() - self._since >= LOG_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the lines that wait."""
        kinds, self._kinds = self._kinds, Counter()
        seconds, self._since = time.monotonic() - self._since, time.monotonic()
        for (status, service, selector), count in kinds.items():
            log.info(
                "policies.answered",
                status=status,
                service=service,
                token=selector,
                count=count,
                seconds=round(seconds, 1),
            )


async def _until_gone(receive: Receive, news: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    news.set()
