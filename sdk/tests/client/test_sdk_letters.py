"""Dead letters reach Holdfast once, whatever its answers, outages and the disk do."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import Holdfast
from holdfast._feed import Feed
from holdfast._letter import Capture, Limits
from holdfast._letters import Letters
from holdfast._settings import Timing
from holdfast._spool import Disk
from holdfast._transport import Transport
from sdk.tests.client.server import Fault, PolicyServer
from sdk.tests.client.world import (
    QUICK,
    TOKEN,
    FakeClock,
    RecordingEngine,
    document,
    eventually,
    settings,
)


class Events:
    def __init__(self) -> None:
        self.told: list[tuple[str, str | None, dict[str, Any]]] = []

    def emit_sampled(self, kind: str, dependency: str | None, data: dict[str, Any]) -> None:
        self.told.append((kind, dependency, data))


class World:
    """Letters of one process whose thread never starts: tests take its steps."""

    def __init__(self, server: PolicyServer, cache_dir: Path | None) -> None:
        self.server = server
        self.clock = FakeClock()
        self.events = Events()
        timing = Timing(request_seconds=5.0)
        mine = settings(server.url, cache_dir=cache_dir)
        self.transport = Transport(mine, "i", self.clock, timing)
        feed = Feed(RecordingEngine(), self.clock, lambda: None)
        self.letters = Letters(
            mine,
            self.transport,
            feed,
            self.events,  # type: ignore[arg-type]  # all that letters ask of it
            self.clock,
            timing,
        )
        self.letters._is_started = True

    def capture(self, number: int = 0, **members: Any) -> bool:
        self.clock.advance(0.001)
        given: dict[str, Any] = {
            "handler": "charge",
            "body": {"n": number},
            "failed_at": self.clock.wall(),
        }
        return self.letters.capture(Capture(**given | members), Limits())

    def step(self, seconds: float = 0.0) -> float:
        self.clock.advance(seconds)
        return self.letters.outbox.step()

    def bodies(self) -> list[Any]:
        return [json.loads(item["body"]["data"]) for item in self.server.desk.letters.values()]

    def batches(self) -> list[int]:
        return [len(seen.json["items"]) for seen in self.server.requests("/capture", "POST")]


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        server.publish(document(1))
        yield server


@pytest.fixture
def world(server: PolicyServer, tmp_path: Path) -> Iterator[World]:
    world = World(server, tmp_path)
    yield world
    world.letters.outbox.close()
    world.transport.close()


class TestDelivery:
    def test_batches_are_of_a_hundred_at_most_and_in_order(self, world: World) -> None:
        for number in range(250):
            world.capture(number)

        assert world.letters.outbox.flush()

        assert world.bodies() == [{"n": number} for number in range(250)]
        assert world.batches() == [100, 100, 50]
        assert world.letters.stats()["bytes_on_disk"] == 0

    @pytest.mark.parametrize(
        "fault",
        [
            Fault("status", 500),
            Fault("status", 503),
            Fault("status", 429),
            Fault("drop"),
            Fault("garbage"),
            Fault("status", 302),
        ],
        ids=["500", "503", "429", "lost", "another's answer", "redirect"],
    )
    def test_what_was_not_answered_for_is_sent_again(self, world: World, fault: Fault) -> None:
        world.server.letter_faults = [fault] * 2
        world.capture(1)

        world.step()
        assert not world.letters.outbox.is_empty
        world.step(31)
        world.step(31)

        assert world.bodies() == [{"n": 1}]
        assert world.letters.outbox.is_empty
        assert len(world.batches()) == 3

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_a_refused_key_keeps_them_for_a_minute(self, world: World, status: int) -> None:
        world.server.letter_faults = [Fault("status", status)]
        world.capture(1)

        world.step()
        world.step(59)
        assert len(world.batches()) == 1
        world.step(2)

        assert world.bodies() == [{"n": 1}]

    def test_retry_after_is_respected(self, world: World) -> None:
        world.server.letter_faults = [Fault("status", 503, {"Retry-After": "20"})]
        world.capture(1)

        world.step()
        world.step(19)

        assert len(world.batches()) == 1

    def test_a_batch_too_large_is_halved_until_it_fits(self, world: World) -> None:
        world.server.letter_faults = [Fault("status", 413)] * 2
        for number in range(8):
            world.capture(number)

        assert world.letters.outbox.flush()

        assert world.batches() == [8, 4, 2, 6]
        assert len(world.bodies()) == 8

    def test_one_letter_that_no_request_can_carry_does_not_hold_the_others(
        self, world: World, tmp_path: Path
    ) -> None:
        world.server.letter_faults = [Fault("status", 413)] * 2
        for number in range(2):
            world.capture(number)

        assert world.letters.outbox.flush()

        assert world.bodies() == [{"n": 1}]
        assert world.letters.stats()["refused"] == 1

    def test_an_invalid_letter_is_set_aside_and_told(
        self, world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.server.desk.refused_handlers = {"bad"}
        world.capture(1)
        world.capture(2, handler="bad", dedup_key="the bad one")
        world.capture(3)

        assert world.letters.outbox.flush()

        assert world.bodies() == [{"n": 1}, {"n": 3}]
        (aside,) = tmp_path.glob("letters-*/refused/*.json")
        assert json.loads(aside.read_bytes())["dedup_key"] == "the bad one"
        assert "the bad one" in caplog.text
        assert [kind for kind, *_ in world.events.told] == ["deadletter.dropped"]

    def test_a_batch_whose_answer_was_lost_changes_nothing_when_it_comes_again(
        self, server: PolicyServer, tmp_path: Path
    ) -> None:
        """The server committed; the process died before it heard of it; the next one repeats."""
        dead = World(server, tmp_path)
        for number in range(3):
            dead.capture(number)
        segment = dead.letters._spool.oldest()  # type: ignore[union-attr]
        content = segment.read_bytes()  # type: ignore[union-attr]
        dead.letters.outbox.flush()
        segment.write_bytes(content)  # type: ignore[union-attr]  # it was not removed in time
        dead.transport.close()
        dead.letters.outbox.close()

        heir = World(server, tmp_path)
        heir.step()
        heir.letters.outbox.flush()

        assert heir.batches() == [3, 3]
        assert len(server.desk.failures) == 3
        heir.transport.close()
        heir.letters.outbox.close()


class FullDisk(Disk):
    is_full = True

    def write(self, descriptor: int, content: bytes) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(descriptor, content)


class TestDiskFull:
    def test_letters_wait_in_memory_and_are_delivered(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.letters._spool._files = FullDisk()  # type: ignore[union-attr]
        for number in range(3):
            assert world.capture(number)
        assert caplog.text.count("No space left") == 1

        assert world.letters.outbox.flush()

        assert world.bodies() == [{"n": 0}, {"n": 1}, {"n": 2}]

    def test_they_go_to_disk_in_order_once_it_has_room(self, world: World) -> None:
        disk = FullDisk()
        world.letters._spool._files = disk  # type: ignore[union-attr]
        world.server.letter_faults = [Fault("status", 503)]
        world.capture(0)
        disk.is_full = False
        world.capture(1)

        world.step()

        stats = world.letters.stats()
        assert (stats["in_memory"], stats["bytes_on_disk"] > 0) == (0, True)
        world.step(31)
        assert world.bodies() == [{"n": 0}, {"n": 1}]

    def test_memory_is_bounded_drops_are_counted_told_once_and_reported(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.letters._spool._files = FullDisk()  # type: ignore[union-attr]

        kept = [world.capture(number) for number in range(1_100)]

        assert (kept.count(True), kept.count(False)) == (1_000, 100)
        assert world.letters.stats()["dropped"] == 100
        assert caplog.text.count("dropped") == 1
        assert world.events.told[0][0] == "deadletter.dropped"

    def test_without_a_cache_directory_memory_must_do(self, server: PolicyServer) -> None:
        world = World(server, None)

        assert world.capture(1)
        assert world.letters.outbox.flush()

        assert world.bodies() == [{"n": 1}]
        world.transport.close()


class TestAdoption:
    def test_a_changed_token_still_delivers_what_was_left(
        self, server: PolicyServer, tmp_path: Path
    ) -> None:
        """Same environment, as the policy in force says; the token was rotated meanwhile."""
        owners = [World(server, tmp_path).letters._owner for _ in range(2)]
        owners[1]._selector = "another12345"

        assert not owners[1].may_adopt(owners[0].label)
        for owner in owners:
            owner._feed.offer(
                json.dumps(document(1)).encode(),
                etag=None,
                asked_at=1.0,
                received=_received(),
            )
        assert owners[1].may_adopt(owners[0].label)

    @pytest.mark.parametrize("label", ["", "[]", "{}", "\0", '{"environment": null}'])
    def test_nobodys_records_are_nobodys(
        self, server: PolicyServer, tmp_path: Path, label: str
    ) -> None:
        assert not World(server, tmp_path).letters._owner.may_adopt(label)


def _received() -> Any:
    from sdk.tests.client.world import received

    return received(FakeClock())


class TestClient:
    def client(self, server: PolicyServer, tmp_path: Path) -> Holdfast:
        return Holdfast(server.url, TOKEN, service="checkout", cache_dir=tmp_path, timing=QUICK)

    def test_a_letter_captured_while_holdfast_is_away_arrives_when_it_is_back(
        self, server: PolicyServer, tmp_path: Path
    ) -> None:
        server.letter_faults = [Fault("status", 503)] * 3
        with self.client(server, tmp_path) as hf:
            assert hf.dead_letter("charge", {"order": 7}, idempotency_key="order 7")

            eventually(lambda: server.desk.letters)

        (item,) = server.desk.letters.values()
        assert (item["handler"], item["idempotency_key"]) == ("charge", "order 7")
        assert (item["reason"], item["error"]["class"], item["attempts"]) == ("manual", "manual", 1)

    def test_the_end_of_the_process_leaves_them_to_the_next(
        self, server: PolicyServer, tmp_path: Path
    ) -> None:
        server.letter_faults = [Fault("status", 503)] * 50
        with self.client(server, tmp_path) as hf:
            hf.dead_letter("charge", 1)
        hf.dead_letter("charge", 2)  # after the end
        server.letter_faults = []
        hf._session.connection.letters.outbox.close()  # type: ignore[union-attr]  # as the kernel does

        with self.client(server, tmp_path):
            eventually(lambda: len(server.desk.letters) == 2)

    def test_nothing_is_made_before_the_first_letter(
        self, server: PolicyServer, tmp_path: Path
    ) -> None:
        with self.client(server, tmp_path) as hf:
            hf.start(wait=5)

            assert not list(tmp_path.glob("letters-*"))
            assert not hf._session.connection.letters._is_started  # type: ignore[union-attr]

    def test_without_a_server_it_says_so_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        hf = Holdfast("", TOKEN, service="checkout", cache_dir=tmp_path)

        assert not hf.dead_letter("charge", 1)
        assert not hf.dead_letter("charge", 2)

        assert caplog.text.count("are not captured") == 1

    def test_a_dropped_letter_is_reported(self, server: PolicyServer, tmp_path: Path) -> None:
        with self.client(server, tmp_path) as hf:
            assert not hf.dead_letter("charge", object(), dependency="payments-api")

            eventually(
                lambda: any(
                    event["type"] == "deadletter.dropped"
                    for report in server.reports
                    for event in report["events"]
                )
            )

    @pytest.mark.parametrize(
        ("handler", "reason"), [("", "manual"), ("x" * 201, "manual"), ("charge", "because")]
    )
    def test_an_authors_mistake_is_told_to_the_author(self, handler: str, reason: str) -> None:
        with pytest.raises(ValueError, match=r"handler|reason"):
            Holdfast("", TOKEN).dead_letter(handler, 1, reason=reason)
