"""Redrives: each letter is run, its outcome is told for sure, and nothing is run twice."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast import CircuitOpen, Holdfast, Letter
from sdk.tests.client.server import Fault, PolicyServer
from sdk.tests.client.world import QUICK, TOKEN, document, eventually


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        server.publish(document(1))
        yield server


@pytest.fixture
def hf(server: PolicyServer, tmp_path: Path) -> Iterator[Holdfast]:
    with client(server, tmp_path) as hf:
        yield hf


def client(server: PolicyServer, cache_dir: Path, **timing: Any) -> Holdfast:
    quick = replace(QUICK, **timing)
    return Holdfast(server.url, TOKEN, service="checkout", cache_dir=cache_dir, timing=quick)


class Seen:
    """A handler that remembers, and raises what it is told to."""

    def __init__(self, *errors: BaseException) -> None:
        self.letters: list[Letter] = []
        self.errors = list(errors)

    def __call__(self, letter: Letter) -> None:
        self.letters.append(letter)
        if self.errors:
            raise self.errors.pop(0)


class TestOutcomes:
    def test_what_returns_is_resolved(self, server: PolicyServer, hf: Holdfast) -> None:
        seen = Seen()
        hf.redrives("charge")(seen)
        for key in (1, 2, 3):
            server.desk.offer(key, "charge", {"n": key}, headers={"a": "b"}, redrive_count=1)

        eventually(lambda: server.desk.outcomes("resolved") == [1, 2, 3])

        assert [letter.body for letter in seen.letters] == [{"n": 1}, {"n": 2}, {"n": 3}]
        first = seen.letters[0]
        assert (first.id, first.idempotency_key, first.redrive_count) == (1, "key 1", 1)
        assert first.headers == {"a": "b"}

    def test_coroutine_functions_share_an_event_loop(
        self, server: PolicyServer, hf: Holdfast
    ) -> None:
        loops = []

        @hf.redrives("charge")
        async def charge(letter: Letter) -> None:
            loops.append(asyncio.get_running_loop())

        for key in (1, 2):
            server.desk.offer(key, "charge", {})

        eventually(lambda: server.desk.outcomes("resolved") == [1, 2])
        assert loops[0] is loops[1]

    @pytest.mark.parametrize("error", [ValueError("no funds"), SystemExit(3)], ids=repr)
    def test_what_raises_failed_again_and_the_next_is_run(
        self, server: PolicyServer, hf: Holdfast, error: BaseException
    ) -> None:
        hf.redrives("charge")(Seen(error))
        server.desk.offer(1, "charge", {})
        server.desk.offer(2, "charge", {})

        eventually(lambda: server.desk.told == [(1, "refailed"), (2, "resolved")])

        assert server.desk.errors[0]["class"] == type(error).__name__
        assert type(error).__name__ in server.desk.errors[0]["stack"]

    def test_what_was_rejected_was_not_tried(self, server: PolicyServer, hf: Holdfast) -> None:
        hf.redrives("charge")(Seen(CircuitOpen("api", retry_after=0.01)))
        server.desk.offer(1, "charge", {})
        server.desk.offer(2, "charge", {})

        eventually(lambda: server.desk.told == [(1, "released"), (2, "resolved")])

    @pytest.mark.parametrize(
        "members",
        [
            {"headers": {"holdfast-body-omitted": "too large"}},
            {"body": {"encoding": "base64", "content_type": "", "data": "!"}},
            {"body": {"encoding": "utf-8", "content_type": "application/json", "data": "{"}},
        ],
        ids=["left out", "not base64", "not JSON"],
    )
    def test_a_letter_without_its_body_fails_without_a_call(
        self, server: PolicyServer, hf: Holdfast, members: dict[str, Any]
    ) -> None:
        seen = Seen()
        hf.redrives("charge")(seen)
        server.desk.offer(1, "charge", {}, **members)

        eventually(lambda: server.desk.told == [(1, "refailed")])

        assert seen.letters == []
        assert "its body" in server.desk.errors[0]["message"]

    def test_an_outcome_whose_answer_was_lost_counts_once(
        self, server: PolicyServer, hf: Holdfast
    ) -> None:
        seen = Seen()
        server.outcome_faults = [Fault("status", 503), Fault("drop"), Fault("garbage")]
        hf.redrives("charge")(seen)
        server.desk.offer(1, "charge", {})
        server.desk.offer(2, "charge", {})

        eventually(lambda: server.desk.outcomes("resolved") == [1, 2])

        assert [letter.id for letter in seen.letters] == [1, 2]


class TestClaiming:
    def test_without_a_handler_nothing_is_claimed(self, server: PolicyServer, hf: Holdfast) -> None:
        hf.start(wait=5)
        eventually(lambda: len(server.polls) > 3)

        assert not server.requests("/claim", "POST")

    def test_a_handler_registered_later_is_asked_for(
        self, server: PolicyServer, hf: Holdfast
    ) -> None:
        hf.redrives("one")(Seen())
        eventually(lambda: server.requests("/claim", "POST"))
        hf.redrives("two")(Seen())
        server.desk.offer(1, "two", {})

        eventually(lambda: server.desk.outcomes("resolved") == [1])

    def test_an_outage_is_waited_out(self, server: PolicyServer, hf: Holdfast) -> None:
        server.claim_faults = [Fault("status", 503), Fault("status", 403), Fault("garbage")]
        hf.redrives("charge")(Seen())
        server.desk.offer(1, "charge", {})

        eventually(lambda: server.desk.outcomes("resolved") == [1])

    def test_nothing_is_claimed_while_an_outcome_waits_to_be_told(
        self, server: PolicyServer, hf: Holdfast
    ) -> None:
        server.outcome_faults = [Fault("status", 503)] * 10_000
        hf.redrives("charge")(Seen())
        server.desk.offer(1, "charge", {})
        eventually(lambda: len(server.requests("/outcomes", "POST")) > 2)

        claims = len(server.requests("/claim", "POST"))
        eventually(lambda: len(server.requests("/outcomes", "POST")) > 6)

        assert len(server.requests("/claim", "POST")) == claims

    def test_after_the_end_nothing_is_claimed(self, server: PolicyServer, tmp_path: Path) -> None:
        with client(server, tmp_path) as hf:
            hf.redrives("charge")(Seen())
            eventually(lambda: server.requests("/claim", "POST"))
        claims = len(server.requests("/claim", "POST"))
        server.desk.offer(1, "charge", {})

        eventually(lambda: not hf._session.connection.redriver._claiming.is_alive)  # type: ignore[union-attr]

        assert len(server.requests("/claim", "POST")) <= claims + 1
        assert server.desk.told in ([], [(1, "released")])

    def test_many_handlers_take_turns(self) -> None:
        from holdfast._redrive import Handlers

        handlers = Handlers()
        for number in range(450):
            handlers.register(f"{number:03d}", Seen())

        turns = [handlers.some(turn) for turn in range(3)]

        assert [len(turn) for turn in turns] == [200, 200, 50]
        assert len({name for turn in turns for name in turn}) == 450


class TestLease:
    def test_it_is_extended_while_the_handler_runs(
        self, server: PolicyServer, tmp_path: Path
    ) -> None:
        done = threading.Event()
        with client(server, tmp_path, lease_seconds=0.06) as hf:
            hf.redrives("charge")(lambda letter: done.wait(10))
            server.desk.offer(1, "charge", {})

            eventually(lambda: server.desk.extended[1] >= 3)
            done.set()
            eventually(lambda: server.desk.outcomes("resolved") == [1])


class TestDeath:
    def test_an_outcome_that_could_not_be_told_is_told_by_the_next_process(
        self, server: PolicyServer, tmp_path: Path
    ) -> None:
        seen = Seen()
        server.outcome_faults = [Fault("status", 503)] * 10_000
        with client(server, tmp_path, close_seconds=0.3) as first:
            first.redrives("charge")(seen)
            server.desk.offer(1, "charge", {})
            eventually(lambda: server.requests("/outcomes", "POST"))
        server.outcome_faults = []

        with client(server, tmp_path) as second:
            second.redrives("charge")(seen)
            eventually(lambda: server.desk.outcomes("resolved") == [1])

        assert [letter.id for letter in seen.letters] == [1]

    def test_the_end_waits_for_a_handler_that_runs(
        self, server: PolicyServer, tmp_path: Path
    ) -> None:
        entered, leave = threading.Event(), threading.Event()

        def charge(letter: Letter) -> None:
            entered.set()
            leave.wait(10)

        with client(server, tmp_path, close_seconds=20.0) as hf:
            hf.redrives("charge")(charge)
            server.desk.offer(1, "charge", {})
            entered.wait(10)
            threading.Timer(0.05, leave.set).start()

        assert server.desk.outcomes("resolved") == [1]


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_a_name_no_letter_can_have_is_refused(hf: Holdfast, name: str) -> None:
    with pytest.raises(ValueError, match="200 characters"):
        hf.redrives(name)(Seen())
