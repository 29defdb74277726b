"""Records on disk: whatever dies, and wherever in a write, only what was unfinished is lost."""

import errno
import os
import stat
from pathlib import Path

import pytest

from holdfast._spool import SEGMENT_RECORDS, Disk, Spool, SpoolFull


class FailingDisk(Disk):
    """A disk that takes `room` bytes and no more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.synced = 0

    def write(self, descriptor: int, content: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = super().write(descriptor, content[: self.room])
        self.room -= written
        return written

    def sync(self, descriptor: int) -> None:
        self.synced += 1


def anybody(label: str) -> bool:
    return True


def drained(spool: Spool) -> list[bytes]:
    records = []
    while (segment := spool.oldest()) is not None:
        records += spool.read(segment)
        spool.remove(segment)
    return records


def die(spool: Spool) -> None:
    """Let go of the lock and nothing else, as the kernel does for a process that was killed."""
    assert spool._owner is not None
    os.close(spool._owner)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


class TestRecords:
    def test_they_come_back_in_their_order(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "spool")
        sent = [b'{"n":%d}' % number for number in range(3 * SEGMENT_RECORDS + 7)]
        for record in sent:
            spool.append(record)

        assert drained(spool) == sent
        assert spool.is_empty
        assert spool.size == 0

    def test_only_their_owner_can_read_them(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "spool")
        spool.append(b"secret")

        for path in (tmp_path / "spool").rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path
        assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700

    def test_a_segment_that_was_not_removed_is_read_again(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "spool")
        spool.append(b"first")
        segment = spool.oldest()
        spool.append(b"second")

        assert spool.oldest() == segment

    def test_sync_reaches_the_device_only_when_there_is_something_new(self, tmp_path: Path) -> None:
        disk = FailingDisk(1_000)
        spool = Spool(tmp_path / "spool", files=disk)
        spool.sync()
        spool.append(b"x")

        spool.sync()
        spool.sync()

        assert disk.synced == 1

    def test_size_is_bounded_and_there_is_room_again_once_they_are_taken(
        self, tmp_path: Path
    ) -> None:
        spool = Spool(tmp_path / "spool", most=100)
        spool.append(b"x" * 60)
        with pytest.raises(SpoolFull):
            spool.append(b"x" * 60)

        drained(spool)

        spool.append(b"x" * 60)

    def test_what_other_processes_hold_counts_too(self, tmp_path: Path) -> None:
        other = Spool(tmp_path / "spool", most=100)
        other.append(b"x" * 60)
        spool = Spool(tmp_path / "spool", most=100)
        spool.adopt(anybody)

        with pytest.raises(SpoolFull):
            spool.append(b"x" * 60)


class TestTornAndFull:
    def test_a_record_torn_at_any_byte_costs_only_itself(self, tmp_path: Path) -> None:
        writer = Spool(tmp_path / "writer")
        writer.append(b'{"n":"first"}')
        writer.append(b'{"n":"last"}')
        segment = writer.oldest()
        assert segment is not None
        whole = segment.read_bytes()
        start = whole.index(b"\n") + 1

        for cut in range(start, len(whole)):
            segment.write_bytes(whole[:cut])
            is_complete = cut == len(whole) - 1  # only its line feed is missing
            expected = [b'{"n":"first"}', b'{"n":"last"}'][: 2 if is_complete else 1]
            assert writer.read(segment) == expected, cut

    def test_a_damaged_byte_anywhere_costs_only_its_record(self, tmp_path: Path) -> None:
        writer = Spool(tmp_path / "writer")
        for record in (b"first", b"middle", b"last"):
            writer.append(record)
        segment = writer.oldest()
        assert segment is not None
        whole = bytearray(segment.read_bytes())
        start = whole.index(b"\n") + 1
        end = whole.index(b"\n", start)

        for at in range(start, end):
            damaged = bytearray(whole)
            damaged[at] ^= 1
            segment.write_bytes(damaged)
            assert writer.read(segment) == [b"first", b"last"], at
        assert writer.damaged == end - start

    @pytest.mark.parametrize("room", range(0, 40, 3))
    def test_a_full_disk_refuses_a_record_whole(self, tmp_path: Path, room: int) -> None:
        disk = FailingDisk(40 + room)
        spool = Spool(tmp_path / "spool", files=disk)
        spool.append(b"x" * 30)  # with its checksum and line feed 40 bytes

        with pytest.raises(OSError, match="No space"):
            spool.append(b"y" * 31)
        disk.room = 1_000
        spool.append(b"z" * 30)

        assert drained(spool) == [b"x" * 30, b"z" * 30]
        assert spool.damaged == 0

    def test_a_directory_that_cannot_be_made_is_an_error_each_time(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        spool = Spool(tmp_path / "file" / "spool")

        for _ in range(2):
            with pytest.raises(OSError, match="directory"):
                spool.append(b"x")
        assert spool.is_empty


class TestAdoption:
    def test_what_a_dead_process_left_is_taken_over_whole(self, tmp_path: Path) -> None:
        dead = Spool(tmp_path / "spool")
        sent = [b"%d" % number for number in range(SEGMENT_RECORDS + 5)]
        for record in sent:
            dead.append(record)
        die(dead)
        spool = Spool(tmp_path / "spool")

        spool.adopt(anybody)

        assert drained(spool) == sent
        spool.close()
        assert files(tmp_path) == []

    def test_what_a_living_process_has_stays_with_it(self, tmp_path: Path) -> None:
        living = Spool(tmp_path / "spool")
        living.append(b"mine")
        spool = Spool(tmp_path / "spool")

        spool.adopt(anybody)

        assert spool.is_empty
        assert drained(living) == [b"mine"]

    def test_of_two_that_adopt_one_gets_it(self, tmp_path: Path) -> None:
        dead = Spool(tmp_path / "spool")
        dead.append(b"left")
        die(dead)
        heirs = [Spool(tmp_path / "spool") for _ in range(2)]

        taken = [heir.adopt(anybody) for heir in heirs]

        assert taken == [1, 0]

    def test_another_environments_records_are_left_alone(self, tmp_path: Path) -> None:
        dead = Spool(tmp_path / "spool", label="staging")
        dead.append(b"left")
        dead.relabel("moved to staging")
        die(dead)
        spool = Spool(tmp_path / "spool")

        assert spool.adopt(lambda label: label == "production") == 0
        assert spool.adopt(lambda label: label == "moved to staging") == 1

    def test_a_closed_one_leaves_nothing_behind_if_all_was_taken(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "spool")
        spool.append(b"x")
        drained(spool)

        spool.close()

        assert list((tmp_path / "spool").iterdir()) == []

    def test_a_closed_one_leaves_what_was_not(self, tmp_path: Path) -> None:
        closed = Spool(tmp_path / "spool")
        closed.append(b"x")
        closed.close()
        closed.append(b"after the end")
        spool = Spool(tmp_path / "spool")

        assert spool.adopt(anybody) == 1
        assert drained(spool) == [b"x"]
        die(closed)
        spool.adopt(anybody)
        assert drained(spool) == [b"after the end"]


def test_what_is_closed_takes_nothing_back_from_those_it_was_left_to(tmp_path: Path) -> None:
    """A thread that outlives the end of its client may still look for what others left."""
    first, second = Spool(tmp_path), Spool(tmp_path)
    first.append(b"record")
    first.close()

    assert first.adopt(anybody) == 0
    assert second.adopt(anybody) == 1
    assert drained(second) == [b"record"]
