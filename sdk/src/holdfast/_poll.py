"""The poll loop: asks for the document at the server's pace, and heals whatever push loses."""

import logging
from collections.abc import Callable

from holdfast._document import Received
from holdfast._feed import Feed, Verdict
from holdfast._pace import STREAMING_FACTOR, Backoff, Pace, retry_after, server_time_of
from holdfast._settings import Timing
from holdfast._transport import Answer, Transport, TransportFailed
from holdfast.clock import Clock

log = logging.getLogger("holdfast")

REFUSALS = frozenset({401, 403, 404})  # the key or the service must be put right first
_REFETCH_GAP_SECONDS = 1.0  # between polls out of turn


class Poller:
    """Fetch the policy when it is due; every failure leaves the one in force as it is.

    Args:
        on_polled: Called after each attempt; told whether it ended a time of trouble.

    Attributes:
        trouble: What is wrong with the last answer, in a word or status; None if nothing is.
        polls: Finished attempts.
    """

    def __init__(
        self,
        transport: Transport,
        feed: Feed,
        pace: Pace,
        clock: Clock,
        timing: Timing,
        *,
        on_polled: Callable[[bool], None] = lambda _is_recovered: None,
    ) -> None:
        self._transport = transport
        self._feed = feed
        self._pace = pace
        self._clock = clock
        self._timing = timing
        self._on_polled = on_polled
        self._backoff = Backoff(timing.backoff_seconds, timing.backoff_max_seconds)
        self._wait: float | None = 0.0  # None: by the pace; else after the last poll, seconds
        self._spread = 1.0
        self._polled_at = clock.monotonic()
        self._is_refetch_asked = False
        self._refetched_at = float("-inf")
        self.is_streaming = False
        self.trouble: str | None = None
        self.polls = 0

    def step(self) -> float:
        """Poll if it is time to.

        Returns:
            Seconds until the next poll, or until the policy gets stale.
        """
        if self._seconds_left() <= 0:
            self._poll()
        return max(0.0, min(self._seconds_left(), self._feed.watch_staleness()))

    def refetch(self) -> None:
        """Make a poll due now; in quick repetition, once a second. Wake the thread as well."""
        self._is_refetch_asked = True

    def _seconds_left(self) -> float:
        wait = self._wait
        if wait is None:
            factor = STREAMING_FACTOR if self.is_streaming else 1
            wait = self._pace.poll_seconds * factor * self._spread
        due = self._polled_at + wait
        if self._is_refetch_asked:
            due = min(due, self._refetched_at + _REFETCH_GAP_SECONDS)
        return due - self._clock.monotonic()

    def _poll(self) -> None:
        is_refetch, self._is_refetch_asked = self._is_refetch_asked, False
        was_in_trouble = self.trouble is not None
        try:
            self._wait = self._judge(self._transport.fetch_policy(self._feed.etag))
        except TransportFailed as failure:
            self._wait = self._failed(failure.kind)
        self._spread = self._pace.vary(1.0)
        self._polled_at = self._clock.monotonic()
        if is_refetch:
            self._refetched_at = self._polled_at
        self.polls += 1
        self._on_polled(was_in_trouble and self.trouble is None)

    def _judge(self, answer: Answer) -> float | None:
        """What the answer means for the policy; returns the wait, None for the usual pace."""
        if answer.status == 200:
            return self._take(answer)
        if answer.status == 304 and self._feed.etag is not None:
            self._pace.learn(answer.headers)
            self._feed.confirm()
            self._succeeded()
            return None
        if answer.status in REFUSALS:
            return self._refused(answer.said)
        return self._failed(str(answer.status), at_least=retry_after(answer.headers))

    def _take(self, answer: Answer) -> float | None:
        self._pace.learn(answer.headers)
        verdict = self._feed.offer(
            answer.body,
            etag=answer.headers.get("etag"),
            asked_at=answer.asked_at,
            received=received_now(answer, self._clock),
        )
        if verdict is Verdict.BAD:
            return self._failed("BadDocument")
        if verdict is Verdict.REFETCH:
            self.refetch()
        self._succeeded()
        return None

    def _succeeded(self) -> None:
        self._backoff.reset()
        self._note(None)

    def _refused(self, said: str) -> float:
        self._feed.give_up_waiting()
        self._note(said)
        return self._pace.vary(self._timing.refused_seconds)

    def _failed(self, kind: str, *, at_least: float = 0.0) -> float:
        self._note(kind)
        return self._backoff.next(at_least=at_least)

    def _note(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble is None:
            log.info("holdfast: the control plane answers again")
        else:
            log.warning("holdfast: no policy fetched (%s); the last good one stays", trouble)


def received_now(answer: Answer, clock: Clock) -> Received:
    """When an answer arrived, on our clock and by the server's."""
    server_time = server_time_of(answer.headers)
    return Received(
        monotonic=answer.received_at,
        server_time=clock.wall() if server_time is None else server_time,
    )
