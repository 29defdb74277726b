"""What this process serves, kept up to date on a thread and a connection of its own.

News on the bus wakes the loop at once; it looks by itself every two seconds anyway, so lost news
costs at most that. While the database cannot be reached, the last picture stays and its age grows.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import structlog
from django.conf import settings
from django.db import Error

from apps.accounts.services import remember_uses
from apps.core import bus, clock, loops, pace
from apps.delivery.answers import STALE_AFTER, Token, key_of, token_in
from apps.delivery.keeping import EVERY_SECONDS, NAME, Published
from apps.delivery.lookups import Lookups
from apps.delivery.selectors import read_keys, read_origins, read_places
from apps.delivery.snapshot import Key, Snapshot, Touched
from apps.publication.services import current_epoch

log = structlog.get_logger(__name__)

TOPICS = ("published", "tokens", "epoch", "fleet")
ROUND_SECONDS = 0.5
SCAN_SECONDS = 1.4  # a scan at latest 1.4 s, a round and its queries after the last: within 2 s
LOOKUP_WAIT_SECONDS = 1.0

Watched = tuple[int, str]  # environment id, service
OnDocument = Callable[[Watched], object]
OnKeys = Callable[[], object]


class State:
    """The process's snapshot, its refreshing, and who wants to hear of changes.

    Everything may be called from any thread; listeners are called in the one that refreshes.
    """

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.is_draining = False  # the process is about to stop
        self.file: Published | None = None  # what was last published, for a start without database
        self.lookups = Lookups()
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._looking_up = threading.Lock()
        self._news: set[str] = set(TOPICS)
        self._is_kept = False  # the snapshot is that of the file
        self._scanned_at = float("-inf")
        self._watched: Counter[Watched] = Counter()
        self._listeners: list[tuple[OnDocument, OnKeys]] = []
        self._found: dict[str, tuple[float, Key]] = {}  # looked up: when, and what

    # --- for those who answer ---------------------------------------------------------------

    def needs_lookup(self, token: Token | None) -> bool:
        """Whether it is one the snapshot does not know and may be looked up."""
        snapshot = self.snapshot
        if snapshot is None or token is None or token[0] in snapshot.keys:
            return False
        return self.lookups.may(token[0])

    def for_bearer(self, token: Token | None) -> Snapshot | None:
        """The snapshot to answer with; a token it does not know yet is looked up, once.

        May ask the database, so it is called in a thread unless `needs_lookup` says no. None if
        nothing can be said, about anything or about this token: there is no database.
        """
        if token is None or not self.needs_lookup(token):
            return self.snapshot
        if not self._looking_up.acquire(timeout=LOOKUP_WAIT_SECONDS):
            return None
        try:
            self._look_up(token[0])
        except Error as error:
            log.warning("token.lookup_failed", error=type(error).__name__)
            return None
        finally:
            self._looking_up.release()
        return self.snapshot

    def bearer_of(self, authorization: str) -> Key | None:
        """The token the header carries, and a note that it was used; None if not known here.

        Believed only while the database was reached lately: others ask the database itself.
        """
        snapshot = self.snapshot
        if snapshot is None or time.monotonic() - snapshot.reached_at > STALE_AFTER:
            return None
        key = key_of(token_in(authorization), snapshot, clock.now())
        if key is not None:
            remember_uses([key.token_id])
        return key

    def note_use(self, selector: str) -> None:
        """Remember that the token was used; written down within a minute or so."""
        key = self.snapshot.keys.get(selector) if self.snapshot else None
        if key is not None:
            remember_uses([key.token_id])

    @property
    def is_ready(self) -> bool:
        """Whether clients should be sent here."""
        return self.snapshot is not None and not self.is_draining

    # --- for those who follow ---------------------------------------------------------------

    def listen(self, on_document: OnDocument, on_keys: OnKeys) -> Callable[[], None]:
        """Call back, from the refreshing thread, when watched documents or tokens have changed.

        Returns a function that ends it.
        """
        entry = (on_document, on_keys)
        self._listeners.append(entry)
        return lambda: self._listeners.remove(entry)

    def watch(self, watched: Watched) -> None:
        """Have changes of this document told, until `unwatch` was called as often."""
        with self._lock:
            self._watched[watched] += 1

    def unwatch(self, watched: Watched) -> None:
        with self._lock:
            self._watched[watched] -= 1
            if not self._watched[watched]:
                del self._watched[watched]

    # --- keeping up -------------------------------------------------------------------------

    def hear(self, topic: str) -> None:
        """News came: the next round looks at what it is about."""
        with self._lock:
            self._news.add(topic)

    def refresh(self) -> None:
        """Read what news was about, or, when it is time, everything; then tell the listeners."""
        with self._refreshing:
            self._refresh()

    def _refresh(self) -> None:
        with self._lock:
            news, self._news = self._news, set()
        is_scan = time.monotonic() - self._scanned_at >= SCAN_SECONDS
        if not news and not is_scan:
            return
        try:
            self._read(is_scan=is_scan or bool(news - {"published"}))
        except Error:
            with self._lock:
                self._news |= news  # not looked at yet
            if self.snapshot is None and self.file is not None:
                self._start_from(self.file)
            raise

    def keep(self) -> None:
        """Put what is served on disk, for a start without the database; waits for the disk."""
        if self.file is not None and self.snapshot is not None:
            self.file.keep(self.snapshot)

    def _start_from(self, file: Published) -> None:
        """Serve what was last published until the database is there."""
        kept = file.read(pace.current.pace)
        if kept is not None:
            with self._lock:
                self.snapshot = kept
            self._is_kept = True
            age = round(time.monotonic() - kept.reached_at, 1)
            log.warning("published.from_disk", age_seconds=age)

    def _read(self, *, is_scan: bool) -> None:
        before, started = self.snapshot, time.monotonic()
        if before is None or is_scan:
            epoch, keys = str(current_epoch().pk), read_keys()
            origins = read_origins(epoch)
        else:
            epoch, keys = before.epoch, dict(before.keys)
            origins = {pk: place.origin for pk, place in before.places.items()}
        known = {} if before is None or self._is_kept else before.places
        places, touched = read_places(known, origins)
        with self._lock:
            # Looked up after the keys were read, so these may not have had them yet.
            self._found = {name: each for name, each in self._found.items() if each[0] >= started}
            keys = {**keys, **{name: key for name, (_at, key) in self._found.items()}}
            after = self.snapshot = Snapshot(epoch, places, keys, pace.current.pace, started)
        self._is_kept = False
        if before is None or is_scan:
            self._scanned_at = started
        if before is not None:
            self._tell(before, after, touched)

    def _tell(self, before: Snapshot, after: Snapshot, touched: dict[int, Touched]) -> None:
        with self._lock:
            watched = [each for each in self._watched if each[0] in touched]
        for environment_id, service in watched:
            place, earlier = after.places[environment_id], before.places.get(environment_id)
            if touched[environment_id].concerns(service, place, earlier or place):
                place.document(service)  # merged here, so that the event loop need not
                for on_document, _on_keys in list(self._listeners):
                    on_document((environment_id, service))
        if before.keys != after.keys:
            for _on_document, on_keys in list(self._listeners):
                on_keys()

    def _look_up(self, selector: str) -> None:
        snapshot = self.snapshot
        if snapshot is None or selector in snapshot.keys or not self.lookups.take(selector):
            return
        found = read_keys(selector)
        if not found:
            self.lookups.missed(selector)
            return
        with self._lock:
            self._found[selector] = (time.monotonic(), found[selector])
            newest = self.snapshot or snapshot
            self.snapshot = replace(newest, keys={**newest.keys, **found})


_state: State | None = None
_loop: loops.Loop | None = None


def get() -> State:
    """This process's state."""
    global _state
    if _state is None:
        _state = State()
    return _state


def followed() -> State | None:
    """This process's state, if a loop keeps it up to date; else it may be of long ago."""
    return get() if _loop is not None and _loop.is_alive else None


def current() -> State:
    """This process's state, brought up to date here and now where no loop does that.

    Only `manage.py serve` runs the loops; under another server, or a test's client, there is none.
    """
    known = get()
    if _loop is None or not _loop.is_alive:
        known.hear("fleet")
        known.refresh()
    return known


def keep_fresh() -> None:
    """Have web processes follow the database and the bus; called once, when apps are ready."""
    global _loop
    _loop = loop = loops.register(
        "delivery",
        lambda stopping: _follow(),
        every=ROUND_SECONDS,
        keeps_connection=True,
    )
    loops.register("published", lambda stopping: get().keep(), every=EVERY_SECONDS, finishes=True)
    for topic in TOPICS:
        bus.subscribe(topic, _waker(topic, loop), on_loop=False)


def _follow() -> None:
    known = get()
    if known.file is None:
        known.file = Published(settings.VAR_DIR / NAME)
    known.refresh()


def _waker(topic: str, loop: loops.Loop) -> bus.Callback:
    def wake(data: dict[str, object]) -> None:
        get().hear(topic)
        loop.wake()

    return wake
