"""Policies in force: hot swap, flags, overrides, reports, defaults, forks."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from holdfast._document import Received, parse
from holdfast._engine import Engine
from holdfast._events import Event, Events
from holdfast.errors import BadDocument
from holdfast.testing import FakeClock, LocalHoldfast

WAIT = 10.0


def body(revision: int = 1, flags: Any = None, **dependencies: Any) -> dict[str, Any]:
    meta = {"schema": 1, "epoch": "e", "revision": revision}
    return {"meta": meta, "flags": flags or {}, "dependencies": dependencies}


def received(clock: FakeClock, server_time: float | None = None) -> Received:
    at = clock.wall() if server_time is None else server_time
    return Received(server_time=at, monotonic=clock.monotonic())


@pytest.fixture
def _switching_fast() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def fail() -> None:
    raise ConnectionError


NO_RETRY = {"retry": {"enabled": False}}


class TestHotSwap:
    @pytest.mark.usefixtures("_switching_fast")
    def test_swapping_under_load_tears_no_plan_and_loses_no_call(self) -> None:
        hf = LocalHoldfast()
        stop = threading.Event()
        sizes = ({"window_calls": 50, "minimum_calls": 50}, {"window": "time"})

        def work() -> int:
            done = 0
            while not stop.is_set() or done < 100:
                hf.call("api", lambda: 1)
                done += 1
            return done

        with ThreadPoolExecutor(4) as pool:
            working = [pool.submit(work) for _ in range(4)]
            for turn in range(200):
                bulkhead = {"max_concurrent": 10 + turn % 5, "enabled": turn % 3 > 0}
                hf.set_policy("api", breaker=sizes[turn % 2], bulkhead=bulkhead)
            stop.set()
            total = sum(each.result(WAIT) for each in working)

        stats = hf.dependency("api").stats()
        assert (stats["calls"], stats["successes"], stats["in_flight"]) == (total, total, 0)
        assert hf._engine.state_of("api").bulkhead.used == 0

    def test_a_call_under_way_finishes_on_the_plan_it_began_with(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", retry={"attempts": 3, "base_seconds": 0})
        calls: list[int] = []

        def fails_and_swaps() -> None:
            calls.append(1)
            hf.set_policy("api", **NO_RETRY)
            raise ConnectionError

        hf.try_call("api", fails_and_swaps)

        assert len(calls) == 3

    def test_nor_does_it_get_the_deadline_of_the_next_one(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", retry={"attempts": 3, "jitter": "none"})
        calls: list[int] = []

        def fails_and_swaps() -> None:
            calls.append(1)
            hf.set_policy("api", timeout={"total_seconds": 0.05})
            raise ConnectionError

        hf.try_call("api", fails_and_swaps)

        assert len(calls) == 3

    def test_what_did_not_change_is_the_same_object(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", retry={"attempts": 2})
        hf.call("api", lambda: 1)
        before = hf._engine.state_of("api").plan

        hf.set_policy("other", retry={"attempts": 5})

        assert hf._engine.state_of("api").plan is before

    def test_an_open_breaker_stays_open_through_a_new_policy(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker={"consecutive_failures": 1}, **NO_RETRY)
        hf.try_call("api", fail)

        hf.set_policy("api", breaker={"consecutive_failures": 5})

        assert hf.dependency("api").breaker.state == "open"


class TestDocuments:
    def test_a_bad_push_keeps_the_last_good_and_the_next_good_applies(self) -> None:
        clock = FakeClock()
        engine = Engine(clock, defaults={})
        good = parse(body(1, api={"retry": {"attempts": 2}}))
        engine.apply(good, received(clock))

        bad = parse(body(2, api={"retry": {"attempts": "many"}}), good)
        engine.apply(bad, received(clock))
        in_force = engine.explain("api")["settings"]["retry.attempts"]["value"]
        engine.apply(parse(body(3, api={"retry": {"attempts": 4}}), bad), received(clock))

        assert in_force == 2
        assert [each["path"] for each in bad.refused] == ["dependencies.api.retry.attempts"]
        assert engine.explain("api")["settings"]["retry.attempts"]["value"] == 4

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"nonsense",
            b'{"meta": {"epoch": "e", "revision": NaN}, "flags": {}, "dependencies": {}}',
            b"[" * 100_000,
            b"\xff\xfe",
            b" " * (4 * 1_048_576 + 1),
            msgspec.json.encode(body())[:-5],
        ],
        ids=["empty", "nonsense", "nan", "deep", "not-utf8", "huge", "cut"],
    )
    def test_garbage_is_refused_as_a_whole_and_raises_nothing_else(self, raw: bytes) -> None:
        with pytest.raises(BadDocument):
            parse(raw)

    def test_a_huge_number_within_is_refused_alone(self) -> None:
        text = msgspec.json.encode(body(1, api={"retry": {"attempts": 7}}))

        document = parse(text.replace(b"7", b"7" * 30))

        assert document.dependencies == {"api": {}}
        assert document.refused[0]["path"] == "dependencies.api.retry.attempts"

    def test_local_defaults_hold_until_the_first_policy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CB_FAILURE_THRESHOLD", "7")
        monkeypatch.setenv("CB_RESET_TIMEOUT", "1500")
        monkeypatch.setenv("RETRY_MAX_ATTEMPTS", "a few")
        clock = FakeClock()
        engine = Engine(clock)

        local = engine.explain("api")["settings"]
        engine.apply(parse(body()), received(clock))
        after = engine.explain("api")["settings"]

        assert local["breaker.consecutive_failures"]["value"] == 7
        assert local["breaker.open_seconds"] == {"value": 1.5, "source": "local", "acts": True}
        assert local["retry.attempts"] == {"value": 3, "source": "default", "acts": True}
        assert after["breaker.consecutive_failures"]["value"] == 0

    def test_a_dependency_nobody_configured_works_and_says_so_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        hf = LocalHoldfast()
        hf.set_policy("known")

        for _ in range(3):
            assert hf.call("surprise", lambda: 1) == 1

        told = [each.message for each in caplog.records if "dependency.discovered" in each.message]
        assert len(told) == 1
        assert "surprise" in told[0]
        assert "surprise" in hf.collect()["dependencies"]


class TestLeases:
    def test_read_only_ends_by_itself(self) -> None:
        hf = LocalHoldfast()
        hf.engage("read-only", kind="read_only", reason="failing over", lease_seconds=60)
        flag = hf.read_only_flag
        assert flag is not None
        assert (flag.reason, flag.remaining_seconds) == ("failing over", 60.0)

        hf.fake_clock.advance(59.9)
        assert hf.read_only
        hf.fake_clock.advance(0.1)

        assert not hf.read_only
        assert hf.read_only_flag is None

    def test_the_longest_of_several_counts(self) -> None:
        hf = LocalHoldfast()
        hf.engage("brief", kind="read_only", lease_seconds=10)
        hf.engage("long", kind="read_only", lease_seconds=20)
        hf.fake_clock.advance(15)

        assert hf.read_only_flag is not None
        assert hf.read_only_flag.key == "long"

    def test_wall_clock_jumps_neither_prolong_nor_end_it(self) -> None:
        hf = LocalHoldfast()
        hf.engage("read-only", kind="read_only", lease_seconds=60)

        hf.fake_clock.jump_wall(+86_400)
        assert hf.read_only
        hf.fake_clock.jump_wall(-2 * 86_400)
        hf.fake_clock.advance(60)

        assert not hf.read_only

    def test_receiving_the_same_lease_again_never_prolongs_it(self) -> None:
        clock = FakeClock()
        engine = Engine(clock, defaults={})
        entry = {"kind": "read_only", "enabled": True, "expires_at": "2026-01-01T00:01:00Z"}
        override = {"mode": "force_open", "expires_at": "2026-01-01T00:01:00Z"}
        document = parse(body(1, {"ro": entry}, api={"override": override}))
        engine.apply(document, received(clock))
        engine.state_of("api")
        server_clock_stands_still = clock.wall()

        for _ in range(4):
            clock.advance(20)
            engine.apply(document, received(clock, server_clock_stands_still))

        assert not engine.read_only
        assert engine.dependency("api").breaker.override is None

    def test_the_servers_word_replaces_a_lease_guessed_from_the_disk(self) -> None:
        """A wall clock that jumped while the process was down may have cut it short."""
        clock = FakeClock()
        engine = Engine(clock, defaults={})
        expires_at = "2026-01-01T00:30:00Z"
        leased = {"kind": "read_only", "enabled": True, "expires_at": expires_at}
        override = {"mode": "force_open", "reason": "drill", "expires_at": expires_at}
        parsed = parse(body(1, {"read-only": leased}, api={"override": override}))
        late = Received(
            server_time=clock.wall() + 86_400, monotonic=clock.monotonic(), is_from_disk=True
        )
        engine.apply(parsed, late)
        before = (engine.read_only, engine.try_call("api", lambda: 1).ok)

        clock.advance(5)
        engine.apply(parsed, received(clock))

        flag = engine.read_only_flag()
        assert before == (False, True)
        assert flag is not None
        assert flag.remaining_seconds == 1_795.0
        assert engine.explain("api")["override"]["remaining_seconds"] == 1_795.0
        assert engine.try_call("api", lambda: 1).rejection is not None

    def test_an_extended_lease_is_followed(self) -> None:
        hf = LocalHoldfast()
        hf.engage("read-only", kind="read_only", lease_seconds=10)
        hf.engage("read-only", kind="read_only", lease_seconds=100)
        hf.fake_clock.advance(50)

        assert hf.read_only

    def test_its_end_is_reported_once(self) -> None:
        hf = LocalHoldfast()
        hf.engage("read-only", kind="read_only", lease_seconds=10)
        hf.fake_clock.advance(11)

        reported = [event["type"] for _ in range(2) for event in hf.collect()["events"]]

        assert reported == ["flag.lease_ended"]

    def test_an_override_ends_by_itself(self) -> None:
        hf = LocalHoldfast()
        hf.override("api", "force_open", lease_seconds=60)
        assert hf.try_call("api", lambda: 1).rejection is not None

        hf.fake_clock.advance(60)

        assert hf.call("api", lambda: 1) == 1
        assert hf.dependency("api").breaker.override is None

    def test_one_that_ended_unnoticed_is_not_prolonged_by_the_next(self) -> None:
        hf = LocalHoldfast()
        hf.call("api", int)
        hf.override("api", "force_open", lease_seconds=60)
        hf.fake_clock.advance(61)

        hf.override("api", "force_open", lease_seconds=60)

        events = [each["data"] for each in hf.collect()["events"] if "override" in each["type"]]
        assert [each["cause"] for each in events] == ["set", "lease_ended", "set"]

    def test_an_override_may_come_before_the_first_call(self) -> None:
        hf = LocalHoldfast()
        hf.override("never-called", "force_open")

        assert hf.try_call("never-called", lambda: 1).rejection is not None

    def test_an_override_that_leaves_the_document_is_released(self) -> None:
        hf = LocalHoldfast()
        hf.override("api", "force_open")
        hf.try_call("api", lambda: 1)

        hf.override("api", None)

        assert hf.call("api", lambda: 1) == 1

    def test_an_override_survives_new_settings(self) -> None:
        hf = LocalHoldfast()
        hf.override("api", "force_open")
        hf.try_call("api", lambda: 1)

        hf.set_policy("api", breaker={"open_seconds": 1})

        assert hf.try_call("api", lambda: 1).rejection is not None


class TestFlags:
    def test_an_unknown_flag_is_off(self) -> None:
        state = LocalHoldfast().flag("nobody-made-it")

        assert (state.enabled, state.kind, state.value) == (False, None, None)

    def test_a_percentage_is_for_keys(self) -> None:
        hf = LocalHoldfast()
        hf.engage("beta", percentage=30, value={"size": 2})

        engaged = [hf.flag("beta", f"user-{n}").enabled for n in range(1_000)]

        assert 250 < sum(engaged) < 350
        assert hf.flag("beta", "user-1").value == {"size": 2}
        assert hf.flag("beta", 7).enabled == hf.flag("beta", "7").enabled  # type: ignore[arg-type]  # ids are often numbers

    def test_silence_ends_what_shall_revert_and_holds_the_rest(self) -> None:
        hf = LocalHoldfast()
        hf.engage("holds", on_stale="hold")
        hf.engage("reverts", on_stale="revert")

        hf.set_stale()
        stale = (hf.flag("holds").enabled, hf.flag("reverts").enabled)
        hf.set_stale(False)

        assert stale == (True, False)
        assert hf.flag("reverts").enabled


class TestReports:
    def test_counts_go_out_once(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", **NO_RETRY)
        hf.call("api", lambda: 1)
        hf.try_call("api", fail)

        first = hf.collect()["dependencies"]["api"]
        second = hf.collect()["dependencies"]["api"]

        assert (first["calls"], first["successes"], first["failures"]) == (2, 1, 1)
        assert sum(first["latency"].values()) == 2
        assert (second["calls"], second["latency"]) == (0, {})

    def test_the_shape_is_the_contracts(self) -> None:
        hf = LocalHoldfast()
        hf.call("api", lambda: 1)

        reported = hf.collect()["dependencies"]["api"]

        assert sorted(reported) == sorted(
            ["calls", "successes", "failures", "timeouts", "slow", "cancelled", "rejected",
             "retries", "recoveries", "fallbacks", "latency", "breaker", "in_flight"]
        )  # fmt: skip
        assert sorted(reported["rejected"]) == sorted(
            ["open", "forced", "bulkhead", "rate_limit", "throttle", "budget", "degraded"]
        )
        assert reported["breaker"] == {
            "state": "closed",
            "since": "2026-01-01T00:00:00.000+00:00",
            "generation": 0,
            "override": None,
        }

    def test_everything_can_be_encoded(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker={"consecutive_failures": 1}, **NO_RETRY)
        hf.try_call("api", fail)

        decoded = msgspec.json.decode(msgspec.json.encode(hf.collect()))

        event = decoded["events"][0]
        assert (event["type"], event["dependency"]) == ("breaker.state_changed", "api")
        assert event["data"]["to"] == "open"
        assert event["at"].startswith("2026-01-01T00:00:00")

    def test_stats_can_be_encoded_too(self) -> None:
        hf = LocalHoldfast()
        hf.call("api", lambda: 1)

        assert msgspec.json.decode(msgspec.json.encode(hf.stats()))["dependencies"]["api"]["calls"]

    def test_forced_rejections_are_told_apart(self) -> None:
        hf = LocalHoldfast()
        hf.override("api", "force_open")
        hf.try_call("api", lambda: 1)

        assert hf.collect()["dependencies"]["api"]["rejected"]["forced"] == 1

    def test_slow_calls_are_counted(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker={"slow_call_seconds": 1})
        hf.call("api", lambda: hf.fake_clock.advance(2))

        assert hf.collect()["dependencies"]["api"]["slow"] == 1

    @pytest.mark.usefixtures("_switching_fast")
    def test_collecting_while_calls_run_loses_and_doubles_nothing(self) -> None:
        hf = LocalHoldfast()
        hf.call("api", lambda: 1)
        collected = 0

        with ThreadPoolExecutor(4) as pool:
            jobs = [
                pool.submit(lambda: [hf.call("api", lambda: 1) for _ in range(300)])
                for _ in range(4)
            ]
            while not all(job.done() for job in jobs):
                collected += hf.collect()["dependencies"]["api"]["calls"]
        collected += hf.collect()["dependencies"]["api"]["calls"]

        assert collected == 1_201


class TestEvents:
    def test_a_listener_that_raises_harms_no_call(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker={"consecutive_failures": 1}, **NO_RETRY)
        heard: list[Event] = []
        hf.on_event(lambda event: 1 / 0)  # type: ignore[arg-type]  # a careless listener
        hf.on_event(heard.append)

        outcome = hf.try_call("api", fail)

        assert isinstance(outcome.error, ConnectionError)
        assert [event.type for event in heard] == ["breaker.state_changed"]
        assert hf.stats()["listener_errors"] == 1

    def test_a_listener_may_call_back(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker={"consecutive_failures": 1}, **NO_RETRY)
        states: list[Any] = []

        def look(event: Event) -> None:
            states.append((hf.dependency("api").breaker.state, hf.try_call("api", fail).ok))

        hf.on_event(look)
        hf.try_call("api", fail)

        assert states == [("open", False)]

    def test_a_listener_of_a_push_may_wait_for_other_threads(self) -> None:
        hf = LocalHoldfast()
        hf.call("api", lambda: 1)

        def look(event: Event) -> None:
            with ThreadPoolExecutor(1) as pool:  # needs every lock the push took
                pool.submit(hf.call, f"after {event.type}", lambda: 1).result(WAIT)
                pool.submit(hf.collect).result(WAIT)

        hf.on_event(look)
        hf.override("api", "force_open")

        dependencies = set(hf.stats()["dependencies"])
        assert dependencies == {"api", "after breaker.override_changed", "after policy.applied"}
        assert hf.stats()["listener_errors"] == 0

    def test_a_slow_listener_holds_no_other_thread_up(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker={"consecutive_failures": 1}, **NO_RETRY)
        inside, leave = threading.Event(), threading.Event()

        def slow(event: Event) -> None:
            inside.set()
            assert leave.wait(WAIT)

        hf.on_event(slow)
        with ThreadPoolExecutor(1) as pool:
            stuck = pool.submit(hf.try_call, "api", fail)
            assert inside.wait(WAIT)
            assert hf.try_call("api", fail).rejection is not None
            leave.set()
            stuck.result(WAIT)

    def test_masses_of_alike_events_become_one_a_second_with_their_number(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", fallback={"chain": [{"kind": "value", "value": 1}]}, **NO_RETRY,
                      breaker={"enabled": False}, recovery={"pattern_count": 1_000})  # fmt: skip
        for _ in range(500):
            hf.call("api", fail)

        events = hf.collect()["events"]

        assert [event["type"] for event in events] == ["fallback.used"] * 2
        assert sum(event["data"]["count"] for event in events) == 500

    def test_a_report_never_carries_more_than_200(self) -> None:
        clock = FakeClock()
        events = Events(clock)
        for number in range(300):
            events.emit("thing.happened", None, {"number": number})

        drained = events.drain()

        assert [event.data["number"] for event in drained] == list(range(100, 300))
        assert events.dropped == 100

    def test_each_retry_is_told_to_listeners_but_not_reported(self) -> None:
        hf = LocalHoldfast()
        heard: list[Event] = []
        hf.on_event(heard.append)

        hf.try_call("api", fail)

        retries = [event.data["attempt"] for event in heard if event.type == "retry.attempted"]
        assert retries == [2, 3]
        assert "retry.attempted" not in {event["type"] for event in hf.collect()["events"]}

    def test_used_up_retries_are_an_event(self) -> None:
        hf = LocalHoldfast()

        hf.try_call("api", fail)

        event = hf.collect()["events"][-1]
        assert event["type"] == "retry.exhausted"
        assert event["data"] == {
            "attempts": 3,
            "class": "transient",
            "reason": "attempts_exhausted",
            "count": 1,
        }


class TestViews:
    def test_a_dependency_shows_itself(self) -> None:
        hf = LocalHoldfast()
        view = hf.dependency("api")

        seen = hf.call("api", lambda: (view.name, view.in_flight, view.is_degraded))

        assert seen == ("api", 1, False)
        assert view.stats()["calls"] == 1


class TestExplain:
    def test_each_value_says_where_it_came_from(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker={"open_seconds": 9}, hedge={"enabled": True})
        hf.override("api", "metrics_only", reason="looking", lease_seconds=30)
        hf.engage("simple", kind="fallback", dependencies=["api"])
        hf.fake_clock.advance(5)

        why = hf.explain("api")

        assert why["settings"]["breaker.open_seconds"] == {
            "value": 9.0,
            "source": "policy",
            "acts": True,
        }
        assert why["settings"]["breaker.window_calls"]["source"] == "default"
        assert why["hedge"] == {"functions": "async", "after_seconds": None}
        assert why["override"] == {
            "mode": "metrics_only",
            "reason": "looking",
            "remaining_seconds": 25.0,
        }
        assert (why["flags"], why["degraded"], why["revision"]) == (["simple"], True, 3)

    def test_every_setting_acts(self) -> None:
        settings = LocalHoldfast().explain("api")["settings"]

        assert [path for path, setting in settings.items() if not setting["acts"]] == []


class TestForks:
    def test_a_child_starts_with_fresh_locks_and_counts_and_the_same_policy(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", bulkhead={"max_concurrent": 1})
        engine = hf._engine
        dependency = engine.state_of("api")
        locks: list[Any] = [engine._lock, engine.events._lock, dependency.breaker._lock,
                 dependency.stats._lock, dependency.budget._lock, dependency.fallbacks._lock,
                 dependency.bulkhead._lock, dependency.rate_limiter._lock,
                 dependency.recovery._lock, dependency.throttle._lock,
                 dependency.durations._lock]  # fmt: skip
        for lock in locks:  # as if another thread held every one of them in the moment of the fork
            threading.Thread(target=lock.acquire).start()
        dependency.bulkhead.used = 1

        engine.reset_after_fork()

        assert hf.call("api", lambda: 1) == 1
        assert hf.collect()["dependencies"]["api"]["calls"] == 1
        assert hf.explain("api")["settings"]["bulkhead.max_concurrent"]["value"] == 1

    def test_a_call_under_way_in_the_parent_leaves_no_trace_where_it_ends_twice(self) -> None:
        """Else a child counts one call less than none, and the server refuses every report."""
        hf = LocalHoldfast()
        hf.set_policy("api", bulkhead={"max_concurrent": 5}, timeout={"attempt_seconds": 9})

        hf.call("api", hf._engine.reset_after_fork)

        reported = hf.collect()["dependencies"]["api"]
        assert (reported["calls"], reported["successes"], reported["in_flight"]) == (0, 0, 0)
        assert hf._engine.state_of("api").bulkhead.used == 0
        assert hf.dependency("api").stats()["window"]["calls"] == 0

    def test_an_attempt_begun_in_the_child_counts_there(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", retry={"attempts": 2}, bulkhead={"max_concurrent": 5})
        calls: list[int] = []

        def forks_and_fails_once() -> None:
            calls.append(1)
            if len(calls) == 1:
                hf._engine.reset_after_fork()
                raise ConnectionError

        hf.call("api", forks_and_fails_once)

        reported = hf.collect()["dependencies"]["api"]
        assert (reported["calls"], reported["successes"], reported["in_flight"]) == (1, 1, 0)
        assert hf._engine.state_of("api").bulkhead.used == 0

    async def test_a_fallback_under_way_in_the_parent_takes_no_place_in_the_child(self) -> None:
        hf = LocalHoldfast()
        chain = [{"kind": "function", "name": "spare"}]
        hf.set_policy("api", fallback={"chain": chain, "max_concurrent": 1}, **NO_RETRY)
        depth: list[int] = []

        async def fails() -> str:
            raise ConnectionError

        async def spare() -> str:
            depth.append(1)
            if len(depth) == 1:
                hf._engine.reset_after_fork()
                return str(await hf.acall("api", fails))
            return "answer"

        hf.register_fallback("spare", spare)

        assert await hf.acall("api", fails) == "answer"
        assert hf._engine.state_of("api").fallbacks._running == 0

    def test_a_real_child_works(self) -> None:
        program = (
            "import os\n"
            "from holdfast._engine import Engine\n"
            "e = Engine(defaults={})\n"
            "e.call('api', int)\n"
            "if pid := os.fork():\n"
            "    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
            "else:\n"
            "    e.reset_after_fork()\n"
            "    e.call('api', int)\n"
            "    os._exit(40 + e.collect()['dependencies']['api']['calls'])\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
        )

        assert done.stdout.strip() == "41"


class TestSummary:
    def test_of_nothing_there_is_no_share(self) -> None:
        assert LocalHoldfast().stats()["summary"] == {
            "executions": 0,
            "success_rate": None,
            "rejected": 0,
            "breakers": {"closed": 0, "half_open": 0, "open": 0},
            "bulkheads": {"in_flight": 0, "waiting": 0, "rejected": 0},
            "recovery": {"attempted": 0, "succeeded": 0, "rate": None},
        }

    def test_adds_up_what_the_dependencies_counted(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("down", breaker={"consecutive_failures": 2}, retry={"enabled": False})
        answers: Iterator[Any] = iter([OSError("once"), "fine"])

        def flaky() -> Any:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        hf.call("up", flaky)
        for _ in range(3):
            hf.try_call("down", lambda: 1 / 0)

        summary = hf.stats()["summary"]
        assert (summary["executions"], summary["success_rate"]) == (4, 1 / 4)
        assert (summary["rejected"], summary["breakers"]["open"]) == (1, 1)
        assert summary["recovery"] == {"attempted": 1, "succeeded": 1, "rate": 1.0}
        assert hf.dependency("up").stats()["recovery_rate"] == 1.0
