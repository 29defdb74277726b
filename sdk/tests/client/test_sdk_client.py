"""The whole client and a real server: what may never happen to a service because of Holdfast."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast import CircuitOpen, Holdfast
from holdfast._settings import Timing
from holdfast.clock import Clock
from sdk.tests.client.server import Fault, PolicyServer
from sdk.tests.client.world import (
    EPOCH,
    OTHER_EPOCH,
    QUICK,
    SERVER_TIME,
    TOKEN,
    FakeClock,
    document,
    eventually,
    flag,
)

READ_ONLY = {"read-only": flag()}
FORCED = {"db": {"override": {"mode": "force_open", "reason": "drill", "expires_at": None}}}

Make = Callable[..., Holdfast]


@contextmanager
def no_thread_left() -> Iterator[None]:
    """What the system answers when it has no thread left: no room for a stack of such a size."""
    before = threading.stack_size(2**46)
    try:
        yield
    finally:
        threading.stack_size(before)


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        server.publish(document(1))
        yield server


@pytest.fixture
def make(server: PolicyServer, tmp_path: Path) -> Iterator[Make]:
    """Makes clients of the server, and closes them."""
    made: list[Holdfast] = []

    def make_client(
        *, clock: Clock | None = None, timing: Timing = QUICK, **changes: Any
    ) -> Holdfast:
        given = {"url": server.url, "token": TOKEN, "service": "checkout", **changes}
        client = Holdfast(cache_dir=tmp_path / "cache", clock=clock, timing=timing, **given)
        made.append(client)
        return client

    yield make_client
    for client in made:
        client.close()


def policy(client: Holdfast) -> dict[str, Any]:
    found = client.stats()["policy"]
    assert isinstance(found, dict)
    return found


def is_converged(client: Holdfast, revision: int) -> Callable[[], bool]:
    return lambda: bool(policy(client)["revision"] == revision)


class TestStart:
    def test_making_and_decorating_start_nothing(self, server: PolicyServer, make: Make) -> None:
        client = make()

        client.guard("db")(len)

        assert client.stats()["policy"] is None
        assert server.seen == []

    @pytest.mark.parametrize(
        "use",
        [
            lambda client: client.guard("db")(len)("abc"),
            lambda client: client.call("db", len, "abc"),
            lambda client: client.try_call("db", len, "abc"),
            lambda client: client.read_only,
            lambda client: client.flag("read-only"),
        ],
        ids=["guard", "call", "try_call", "read_only", "flag"],
    )
    def test_the_first_use_starts_it(self, make: Make, use: Callable[[Holdfast], object]) -> None:
        client = make()

        use(client)

        eventually(is_converged(client, 1))

    def test_waiting_for_the_first_policy(self, server: PolicyServer, make: Make) -> None:
        server.publish(document(1, flags=READ_ONLY))
        client = make()

        assert client.start(wait=10.0) is True

        assert client.read_only is True

    def test_an_unreachable_server_is_no_error(self, server: PolicyServer, make: Make) -> None:
        server.kill()
        client = make()

        assert client.start(wait=0.05) is False

        assert client.call("db", len, "abc") == 3

    def test_a_refused_key_does_not_use_up_the_wait(self, server: PolicyServer, make: Make) -> None:
        server.token = "another"
        client = make()

        assert client.start(wait=60.0) is False

    def test_without_settings_it_works_on_local_defaults_and_says_so_once(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = make(url="nonsense", token="hunter2")

        assert client.start(wait=60.0) is False
        assert [client.call("db", len, "abc") for _ in range(3)] == [3, 3, 3]

        said = [record for record in caplog.records if "local defaults" in record.message]
        assert len(said) == 1
        assert "hunter2" not in caplog.text

    def test_no_call_waits_for_a_hanging_server(self, server: PolicyServer, make: Make) -> None:
        server.faults = [Fault("hang")] * 100
        server.report_faults = [Fault("hang")] * 100
        client = make(timing=Timing(request_seconds=60.0, close_seconds=0.05))

        assert client.call("db", len, "abc") == 3

        eventually(lambda: server.polls)
        assert client.call("db", len, "abc") == 3
        assert policy(client)["polls"] == 0  # the server has not answered yet

    def test_a_system_without_threads_fails_no_call_and_is_tried_again(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = FakeClock()
        client = make(clock=clock, timing=Timing(backoff_seconds=10.0, jitter=0.0))
        with no_thread_left():
            answers = [client.call("db", len, "abc"), client.start()]
            clock.advance(30.0)
            answers.append(client.read_only)
        too_soon = client.call("db", len, "abc"), connection_of(client).threads_alive
        clock.advance(30.0)

        client.call("db", len, "abc")

        assert answers == [3, False, False]
        assert too_soon == (3, {"poll": False, "stream": False, "report": False})
        eventually(is_converged(client, 1))
        assert caplog.text.count("cannot start") == 1

    def test_a_stored_policy_is_in_force_even_if_no_thread_can_be_started(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.publish(document(7, flags=READ_ONLY))
        first = make()
        first.start(wait=10.0)
        first.close()
        second = make()

        with no_thread_left():
            is_read_only = second.read_only

        assert is_read_only is True

    def test_every_first_call_waits_for_the_stored_policy(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.publish(document(7, flags=READ_ONLY))
        first = make()
        first.start(wait=10.0)
        first.close()
        server.kill()
        second = make()
        together = threading.Barrier(8)
        found: list[bool] = []

        def look() -> None:
            together.wait(10.0)
            found.append(second.read_only)

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10.0)

        assert found == [True] * 8


class TestConvergence:
    def test_a_published_flag_is_obeyed_over_the_stream_and_acknowledged(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.hints["Holdfast-Poll-Seconds"] = "3600"
        client = make()
        client.start(wait=10.0)
        eventually(lambda: policy(client)["streaming"])

        server.publish_change(document(2, flags=READ_ONLY), base=1, flags=READ_ONLY)

        eventually(lambda: client.read_only)
        eventually(lambda: any(one["applied_revision"] == 2 for one in server.reports))

    def test_a_lost_event_is_healed_by_a_fetch_at_once(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.hints["Holdfast-Poll-Seconds"] = "3600"
        client = make()
        client.start(wait=10.0)
        eventually(lambda: policy(client)["streaming"])

        server.publish_change(document(3, flags=READ_ONLY), base=2, flags=READ_ONLY)

        eventually(is_converged(client, 3))

    def test_polling_alone_converges_too(self, server: PolicyServer, make: Make) -> None:
        server.stream_faults = [Fault("status", 429)] * 10_000
        client = make()
        client.start(wait=10.0)

        server.publish(document(2, flags=READ_ONLY))

        eventually(lambda: client.read_only)

    def test_a_restored_database_is_followed_to_a_lower_revision(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.publish(document(900))
        client = make()
        client.start(wait=10.0)

        server.publish(document(3, epoch=OTHER_EPOCH), push=True)

        eventually(
            lambda: (policy(client)["epoch"], policy(client)["revision"]) == (OTHER_EPOCH, 3)
        )

    def test_the_policy_never_goes_backwards_whatever_stream_and_poll_deliver(
        self, server: PolicyServer, make: Make
    ) -> None:
        client = make()
        client.start(wait=10.0)
        applied: list[int] = []
        client.on_event(
            lambda event: (
                applied.append(event.data["revision"]) if event.type == "policy.applied" else None
            )
        )
        eventually(lambda: policy(client)["streaming"])

        for revision in (9, 4, 12, 11, 2, 15):
            server.publish(document(revision), push=True)
        eventually(is_converged(client, 15))

        assert applied == sorted(applied)

    def test_an_invalid_entry_is_reported_and_the_others_applied(
        self, server: PolicyServer, make: Make
    ) -> None:
        client = make()
        client.start(wait=10.0)

        broken = {"read-only": flag(), "new": flag() | {"kind": "unheard_of"}, "x": {"y": 1}}
        server.publish(document(2, flags=broken), push=True)

        eventually(lambda: client.read_only)
        eventually(lambda: server.last_report["refused"])
        paths = {refusal["path"] for refusal in server.last_report["refused"]}
        assert "flags.new.kind" in paths
        assert server.last_report["applied_revision"] == 2

    def test_a_breakers_transition_is_reported_at_once(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.hints["Holdfast-Report-Seconds"] = "3600"
        trip = {"db": {"breaker": {"consecutive_failures": 1}, "retry": {"enabled": False}}}
        server.publish(document(1, dependencies=trip))
        client = make()
        client.start(wait=10.0)
        eventually(lambda: server.reports)

        outcome = client.try_call("db", int, "not a number")
        client.try_call("db", refuse)

        assert not outcome.ok
        eventually(lambda: state_of(server.last_report) == "open")

    def test_an_error_a_rule_escalates_is_reported_at_once(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.hints["Holdfast-Report-Seconds"] = "3600"
        rule = {"match": "transient", "action": "escalate"}
        of_db = {"recovery": {"rules": [rule], "pattern_count": 2}, "retry": {"enabled": False}}
        server.publish(document(1, dependencies={"db": of_db}))
        client = make()
        client.start(wait=10.0)
        eventually(lambda: server.reports)

        for _ in range(2):
            client.try_call("db", refuse)

        eventually(lambda: "recovery.escalated" in types_of(server.last_report))

    def test_requests_and_calls_arrive_in_reports(self, server: PolicyServer, make: Make) -> None:
        client = make()
        client.call("db", len, "abc")

        client.count_request(503, 0.2)

        eventually(lambda: sum(one.get("requests", {}).get("5xx", 0) for one in server.reports))
        eventually(lambda: sum(calls_of(one) for one in server.reports) == 1)


def calls_of(report: dict[str, Any]) -> int:
    calls: int = report["dependencies"].get("db", {}).get("calls", 0)
    return calls


def state_of(report: dict[str, Any]) -> str | None:
    state: str | None = report["dependencies"].get("db", {}).get("breaker", {}).get("state")
    return state


def types_of(report: dict[str, Any]) -> set[str]:
    return {event["type"] for event in report["events"]}


def refuse() -> None:
    raise ConnectionRefusedError("down")


class TestTrouble:
    def test_every_kind_of_bad_answer_is_survived_and_then_it_converges(
        self, server: PolicyServer, make: Make
    ) -> None:
        client = make()
        client.start(wait=10.0)
        kinds = ["status", "garbage", "truncated_gzip", "truncated_body", "drop"] * 2
        server.stream_faults = [Fault("garbage")] * 1_000
        server.end_streams()
        server.faults = [Fault(kind) for kind in kinds]

        eventually(lambda: not server.faults)
        server.publish(document(2, flags=READ_ONLY))

        eventually(lambda: client.read_only)
        assert policy(client)["trouble"]["poll"] is None
        assert all(connection_of(client).threads_alive.values())

    def test_a_server_killed_and_restarted_is_found_again(
        self, server: PolicyServer, make: Make
    ) -> None:
        client = make()
        client.start(wait=10.0)
        port = server.port
        server.kill()
        eventually(lambda: policy(client)["trouble"]["poll"] is not None)

        with PolicyServer(port=port) as revived:
            revived.publish(document(2, flags=READ_ONLY))
            eventually(lambda: client.read_only)

    def test_a_revoked_key_keeps_the_policy_until_it_is_mended(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.publish(document(1, flags=READ_ONLY))
        client = make()
        client.start(wait=10.0)
        eventually(lambda: policy(client)["streaming"])
        server.token = "another"

        server.send_event("goodbye", '{"reason": "revoked", "retry_after_seconds": 0}')

        eventually(lambda: policy(client)["trouble"]["poll"] == "401")
        eventually(lambda: server.open_streams == 0)
        assert client.read_only is True
        server.token = TOKEN
        server.publish(document(2))
        eventually(lambda: not client.read_only)

    def test_a_lease_ends_even_though_the_server_is_dead(
        self, server: PolicyServer, make: Make
    ) -> None:
        clock = FakeClock()
        leased = {"read-only": flag(expires_at=SERVER_TIME + 1_800)}
        server.publish(document(1, flags=leased))
        client = make(clock=clock)
        client.start(wait=10.0)
        server.kill()
        clock.now += 1_799.0
        before = client.read_only

        clock.now += 2.0

        assert (before, client.read_only) == (True, False)

    def test_a_jump_of_the_wall_clock_neither_ends_nor_prolongs_a_lease(
        self, server: PolicyServer, make: Make
    ) -> None:
        clock = FakeClock()
        clock.wall_now -= 86_400.0
        leased = {"read-only": flag(expires_at=SERVER_TIME + 1_800)}
        server.publish(document(1, flags=leased))
        client = make(clock=clock)
        client.start(wait=10.0)

        clock.wall_now += 10 * 86_400.0

        assert client.read_only is True
        clock.now += 1_801.0
        assert client.read_only is False

    def test_flags_that_revert_end_when_nothing_is_heard_for_too_long(
        self, server: PolicyServer, make: Make
    ) -> None:
        flags = {"careful": flag(on_stale="revert"), "steady": flag("feature_off")}
        server.publish(document(1, flags=flags, stale_after=0.2))
        client = make()
        client.start(wait=10.0)
        eventually(lambda: client.read_only)

        server.kill()

        eventually(lambda: not client.read_only)
        assert client.flag("steady").enabled is True
        assert policy(client)["stale"] is True


class TestColdStart:
    def test_a_server_dead_at_start_leaves_the_policy_of_the_disk(
        self, server: PolicyServer, make: Make, tmp_path: Path
    ) -> None:
        server.publish(document(7, flags=READ_ONLY, dependencies=FORCED))
        first = make()
        first.start(wait=10.0)
        first.close()
        server.kill()

        second = make()

        assert second.read_only is True
        with pytest.raises(CircuitOpen):
            second.call("db", len, "abc")
        found = policy(second)
        assert (found["source"], found["revision"]) == ("snapshot", 7)
        assert found["age_seconds"] >= 0.0

    def test_a_policy_from_disk_is_followed_by_the_servers(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.publish(document(7, flags=READ_ONLY))
        first = make()
        first.start(wait=10.0)
        first.close()
        server.publish(document(8))

        second = make()
        second.start(wait=10.0)

        assert (second.read_only, policy(second)["source"]) == (False, "server")


class TestClose:
    def test_the_last_report_says_so_and_the_threads_end(
        self, server: PolicyServer, make: Make
    ) -> None:
        client = make()
        client.start(wait=10.0)
        eventually(lambda: policy(client)["streaming"])

        client.close()

        assert server.last_report["stopping"] is True
        connection = connection_of(client)
        eventually(lambda: not any(connection.threads_alive.values()))
        eventually(lambda: server.open_streams == 0)

    def test_calls_go_on_under_the_last_policy(self, server: PolicyServer, make: Make) -> None:
        server.publish(document(1, flags=READ_ONLY))
        with make() as client:
            client.start(wait=10.0)
        client.close()

        assert (client.read_only, client.call("db", len, "abc")) == (True, 3)

    def test_a_hanging_server_does_not_hold_it(self, server: PolicyServer, make: Make) -> None:
        server.report_faults = [Fault("hang")] * 100
        client = make(timing=Timing(report_seconds=0.02, close_seconds=0.1))
        client.start(wait=10.0)
        eventually(lambda: server.requests("/reports", "POST"))

        client.close()

        assert connection_of(client)._closed.is_set() is False  # it gave up waiting

    def test_a_client_never_started_has_nothing_to_say(
        self, server: PolicyServer, make: Make
    ) -> None:
        make().close()

        assert server.seen == []


class TestFacade:
    async def test_coroutines_are_guarded_too(self, make: Make) -> None:
        client = make()

        async def double(number: int) -> int:
            await asyncio.sleep(0)
            return 2 * number

        assert await client.acall("db", double, 4) == 8
        assert (await client.try_acall("db", double, 5)).value == 10
        assert await client.guard("db")(double)(6) == 12

    def test_a_registered_fallback_answers(self, server: PolicyServer, make: Make) -> None:
        chain = {"fallback": {"chain": [{"kind": "function", "name": "spare"}]}}
        server.publish(document(1, dependencies={"db": chain | FORCED["db"]}))
        client = make()
        client.register_fallback("spare", lambda text: -1)
        client.start(wait=10.0)

        assert client.call("db", len, "abc") == -1

    def test_explain_and_dependency_look_at_one_dependency(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.publish(document(5, dependencies=FORCED))
        client = make()
        client.start(wait=10.0)

        assert client.dependency("db").breaker.override == "force_open"
        assert client.explain("db")["override"]["mode"] == "force_open"

    def test_explain_says_of_which_policy_and_how_old_also_when_it_is_from_the_disk(
        self, server: PolicyServer, make: Make
    ) -> None:
        server.publish(document(5, dependencies={"db": {"retry": {"attempts": 2}}}))
        clock = FakeClock()
        before = make(url="", clock=clock).explain("db")
        first = make(clock=clock)
        first.start(wait=10.0)
        confirmed = first.explain("db")
        first.close()
        server.kill()
        clock.advance(90.0)

        second = make(clock=clock)
        second.start()
        restored = second.explain("db")

        members = ("origin", "revision", "published_at", "age_seconds")
        published_at = "2026-11-22T14:03:07Z"
        assert [before[name] for name in members] == ["local defaults", None, None, None]
        assert [confirmed[name] for name in members] == ["server", 5, published_at, 0.0]
        assert [restored[name] for name in members] == ["snapshot", 5, published_at, 90.0]
        assert restored["settings"]["retry.attempts"]["source"] == "policy"
        assert restored["settings"]["retry.base_seconds"]["source"] == "default"

    def test_the_flag_in_force_tells_who_and_why(self, server: PolicyServer, make: Make) -> None:
        server.publish(document(1, flags=READ_ONLY))
        client = make()
        client.start(wait=10.0)

        found = client.read_only_flag

        assert found is not None
        assert (found.key, found.set_by, found.reason) == (
            "read-only",
            "ana",
            "primary failing over",
        )


class TestSecrecy:
    def test_the_token_is_in_no_log_repr_or_status(
        self, server: PolicyServer, make: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        caplog.set_level(logging.DEBUG)
        client = make()
        client.start(wait=10.0)
        server.faults = [Fault("garbage"), Fault("drop"), Fault("status", 401)]
        eventually(lambda: not server.faults)
        server.kill()
        eventually(lambda: policy(client)["trouble"]["report"] is not None)
        client.close()

        said = f"{client!r} {client.stats()} {vars(client)} {caplog.text}"
        stored = "".join(path.read_text() for path in tmp_path.rglob("*.json"))

        assert TOKEN not in said + stored
        assert TOKEN[-43:] not in said + stored
        assert EPOCH in said  # the status is not just empty

    def test_a_policy_is_not_poured_into_the_log(
        self, server: PolicyServer, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, logger="holdfast")
        server.publish(document(1, flags=READ_ONLY))
        client = make()

        client.start(wait=10.0)
        client.close()

        assert "primary failing over" not in caplog.text


def connection_of(client: Holdfast) -> Any:
    assert client._session.connection is not None
    return client._session.connection
