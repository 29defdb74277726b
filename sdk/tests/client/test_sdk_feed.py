"""Which document wins, whatever arrives in whatever order."""

import threading
from dataclasses import dataclass, field

from holdfast._document import Received
from holdfast._engine import Engine
from holdfast._events import Event
from holdfast._feed import Change, Feed, Verdict
from sdk.tests.client.world import (
    EPOCH,
    OTHER_EPOCH,
    SERVER_TIME,
    FakeClock,
    RecordingEngine,
    document,
    encode,
    flag,
    received,
)


@dataclass
class World:
    clock: FakeClock = field(default_factory=FakeClock)
    engine: RecordingEngine = field(default_factory=RecordingEngine)
    news: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.feed = Feed(self.engine, self.clock, lambda: self.news.append(1))

    def offer(
        self,
        revision: int = 1,
        *,
        epoch: str = EPOCH,
        raw: bytes | None = None,
        etag: str | None = None,
        asked_at: float | None = None,
        flags: dict[str, object] | None = None,
        stale_after: float = 300,
    ) -> Verdict:
        body = document(revision, epoch=epoch, flags=flags, stale_after=stale_after)
        return self.feed.offer(
            encode(body) if raw is None else raw,
            etag=etag,
            asked_at=self.clock.now if asked_at is None else asked_at,
            received=received(self.clock),
        )

    def change(self, base: int, revision: int, *, epoch: str = EPOCH, **members: object) -> Verdict:
        change = Change(
            epoch=epoch,
            revision=revision,
            base=base,
            etag=f'"{revision}"',
            published_at="2026-11-22T15:00:00Z",
            members=members,
        )
        return self.feed.offer_change(change, received=received(self.clock))


class TestOrder:
    def test_a_newer_revision_is_applied(self) -> None:
        world = World()

        assert [world.offer(1), world.offer(2)] == [Verdict.APPLIED, Verdict.APPLIED]

        assert world.engine.revisions == [1, 2]

    def test_a_reply_overtaken_by_a_newer_one_never_takes_the_client_back(self) -> None:
        world = World()
        world.offer(7)

        assert world.offer(6) is Verdict.OLD

        assert world.engine.revisions == [7]

    def test_the_same_revision_is_not_applied_twice(self) -> None:
        world = World()
        world.offer(7)

        assert world.offer(7) is Verdict.SAME

        assert world.engine.revisions == [7]

    def test_two_changes_in_one_millisecond_are_both_applied(self) -> None:
        world = World()
        world.offer(1)

        world.change(1, 2, flags={"a": flag()})
        world.change(2, 3, flags={"a": flag(), "b": flag("feature_off")})

        assert world.engine.revisions == [1, 2, 3]

    def test_another_epoch_is_followed_even_to_a_lower_revision(self) -> None:
        world = World()
        world.offer(900)
        world.clock.advance(1)

        assert world.offer(3, epoch=OTHER_EPOCH) is Verdict.APPLIED

        assert world.feed.event_id == f"{OTHER_EPOCH}:3"

    def test_a_late_reply_of_the_epoch_just_left_does_not_win(self) -> None:
        world = World()
        world.offer(900)
        asked_at = world.clock.now
        world.clock.advance(1)
        world.offer(3, epoch=OTHER_EPOCH)

        assert world.offer(901, asked_at=asked_at) is Verdict.REFETCH

        assert world.engine.revisions == [900, 3]


class TestChanges:
    def test_a_change_at_base_is_joined_whole(self) -> None:
        world = World()
        world.offer(1, flags={"read-only": flag(), "old": flag("feature_off")})

        assert world.change(1, 2, flags={"read-only": flag()}) is Verdict.APPLIED

        assert list(world.engine.documents[-1].flags) == ["read-only"]
        assert world.engine.documents[-1].revision == 2
        assert world.feed.etag == '"2"'

    def test_members_that_did_not_change_stay(self) -> None:
        world = World()
        world.offer(1, flags={"read-only": flag()})

        world.change(1, 2, dependencies={"db": {"retry": {"attempts": 2}}})

        assert list(world.engine.documents[-1].flags) == ["read-only"]
        assert list(world.engine.documents[-1].dependencies) == ["db"]

    def test_a_change_on_another_base_is_refetched_so_that_a_lost_event_shows(self) -> None:
        world = World()
        world.offer(1)

        assert world.change(2, 3, flags={}) is Verdict.REFETCH

        assert world.engine.revisions == [1]

    def test_a_change_before_any_document_is_refetched(self) -> None:
        assert World().change(1, 2, flags={}) is Verdict.REFETCH

    def test_a_change_of_another_epoch_is_refetched(self) -> None:
        world = World()
        world.offer(1)

        assert world.change(1, 2, epoch=OTHER_EPOCH, flags={}) is Verdict.REFETCH

    def test_a_change_already_known_from_a_poll_is_ignored(self) -> None:
        world = World()
        world.offer(5)

        assert world.change(4, 5, flags={}) is Verdict.OLD

    def test_a_change_that_makes_no_document_leaves_the_last_good_one(self) -> None:
        world = World()
        world.offer(1)

        assert world.change(1, 2, flags=["not", "an", "object"]) is Verdict.BAD

        assert world.engine.revisions == [1]
        assert world.feed.refused()[0]["path"] == ""


class TestBadDocuments:
    def test_garbage_is_refused_and_told_once(self) -> None:
        world = World()
        world.offer(1)

        assert [world.offer(raw=b"<html>"), world.offer(raw=b"<html>")] == [Verdict.BAD] * 2

        assert world.engine.revisions == [1]
        assert len(world.news) == 2  # revision 1, and one refusal
        assert world.feed.refused()[0]["code"] == "bad_json"

    def test_the_refusal_ends_with_the_next_good_document(self) -> None:
        world = World()
        world.offer(1)
        world.offer(raw=b"{")

        world.offer(2)

        assert world.feed.refused() == []

    def test_the_refusal_ends_with_a_304(self) -> None:
        world = World()
        world.offer(1)
        world.offer(raw=b"{")

        world.feed.confirm()

        assert world.feed.refused() == []

    def test_one_bad_entry_is_reported_and_the_rest_applied(self) -> None:
        world = World()
        world.offer(1, flags={"a": flag() | {"kind": "unheard_of"}, "b": flag()})

        assert list(world.engine.documents[-1].flags) == ["b"]
        assert world.feed.refused()[0]["path"] == "flags.a.kind"


class TestValidator:
    def test_the_poll_brings_the_validator_the_stream_does_not_send(self) -> None:
        world = World()
        world.offer(1, etag=None)

        world.offer(1, etag='"x"')

        assert world.feed.etag == '"x"'
        assert world.engine.revisions == [1]

    def test_a_document_from_disk_has_no_validator_so_that_its_leases_are_renewed(self) -> None:
        clock = FakeClock()
        engine = Engine(clock, defaults={})
        feed = Feed(engine, clock, lambda: None)
        body = document(4, flags={"read-only": flag(expires_at=SERVER_TIME + 1_800)})
        jumped = Received(server_time=SERVER_TIME + 86_400, monotonic=clock.now, is_from_disk=True)
        feed.restore(body, etag='"4"', received=jumped, silence=5.0)
        assert (feed.etag, feed.event_id, engine.read_only) == (None, None, False)

        clock.advance(5)
        now = received(clock, SERVER_TIME + 5)
        verdict = feed.offer(encode(body), etag='"4"', asked_at=clock.now, received=now)

        in_force = engine.read_only_flag()
        assert (verdict, feed.etag) == (Verdict.APPLIED, '"4"')
        assert in_force is not None
        assert in_force.remaining_seconds == 1_795.0


class TestStaleness:
    def test_no_contact_for_too_long_makes_the_policy_stale(self) -> None:
        world = World()
        world.offer(1, stale_after=60)
        world.clock.advance(59)

        assert world.feed.watch_staleness() == 1.0
        world.clock.advance(1)
        assert world.feed.watch_staleness() == float("inf")

        assert world.engine.stale == [True]

    def test_any_contact_heals_it(self) -> None:
        world = World()
        world.offer(1, stale_after=60)
        world.clock.advance(61)
        world.feed.watch_staleness()

        world.feed.heard()

        assert world.engine.stale == [True, False]
        assert world.feed.watch_staleness() == 60.0

    def test_garbage_is_no_contact(self) -> None:
        world = World()
        world.offer(1, stale_after=60)
        world.clock.advance(61)

        world.offer(raw=b"garbage")
        world.feed.watch_staleness()

        assert world.engine.stale == [True]

    def test_hearing_of_changes_without_getting_them_is_no_contact(self) -> None:
        world = World()
        world.offer(1, stale_after=60)
        world.change(7, 8, flags={})
        world.clock.advance(61)

        world.feed.heard()
        world.feed.watch_staleness()

        assert world.engine.stale == [True]

    def test_an_old_snapshot_is_stale_from_the_start(self) -> None:
        world = World()
        world.feed.restore(
            document(4, stale_after=60),
            etag=None,
            received=received(world.clock, SERVER_TIME),
            silence=61.0,
        )

        world.feed.watch_staleness()

        assert world.engine.stale == [True]

    def test_nothing_is_stale_before_the_first_document(self) -> None:
        world = World()
        world.clock.advance(10_000)

        assert world.feed.watch_staleness() == float("inf")
        assert world.engine.stale == []


class TestRestore:
    def test_a_document_from_disk_never_replaces_a_servers(self) -> None:
        world = World()
        world.offer(5)

        was_restored = world.feed.restore(
            document(9), etag=None, received=received(world.clock), silence=0.0
        )

        assert (was_restored, world.engine.revisions) == (False, [5])

    def test_an_unusable_document_on_disk_is_not_the_servers_fault(self) -> None:
        world = World()

        was_restored = world.feed.restore(
            {"meta": {}}, etag=None, received=received(world.clock), silence=0.0
        )

        assert (was_restored, world.feed.refused()) == (False, [])


class TestListeners:
    def test_one_that_waits_holds_up_neither_other_documents_nor_staleness_nor_a_fork(
        self,
    ) -> None:
        clock = FakeClock()
        engine = Engine(clock, defaults={})
        news: list[str] = []
        feed = Feed(engine, clock, lambda: news.append("news"))
        told: list[int] = []

        def others() -> None:
            feed.watch_staleness()
            feed.offer(encode(document(2)), etag=None, asked_at=clock.now, received=received(clock))
            feed.hold()
            feed.release()

        def waits_for_others(event: Event) -> None:
            news.append("told")
            told.append(event.data["revision"])
            if event.data["revision"] == 1:
                other = threading.Thread(target=others)
                other.start()
                other.join(10.0)
                assert not other.is_alive()

        engine.on_event(waits_for_others)
        feed.offer(encode(document(1)), etag=None, asked_at=clock.now, received=received(clock))

        assert engine.stats()["listener_errors"] == 0
        assert told == [1, 2]
        assert news == ["news", "told", "news", "told"]

    def test_one_that_waits_does_so_outside_the_lock_for_changes_and_the_disk_too(self) -> None:
        clock = FakeClock()
        engine = Engine(clock, defaults={})
        feed = Feed(engine, clock, lambda: None)
        free: list[bool] = []

        def looks(event: Event) -> None:
            other = threading.Thread(target=feed.heard)
            other.start()
            other.join(10.0)
            free.append(not other.is_alive())

        engine.on_event(looks)
        feed.restore(document(1), etag=None, received=received(clock), silence=0.0)
        feed.offer(encode(document(1)), etag=None, asked_at=clock.now, received=received(clock))
        change = Change(EPOCH, 2, 1, None, None, {"flags": {}})
        feed.offer_change(change, received=received(clock))

        assert free == [True, True, True]
