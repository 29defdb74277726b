"""Records on disk that outlive the process, until somebody far away has taken them.

Each process writes into a directory of its own and holds a lock on it; the kernel lets go of the
lock when the process dies, however it dies, and another process of the service adopts what is
left. A record is one line with a checksum. It is in the kernel's hands before `append` returns,
so that no end of the process loses it; `sync` gives it to the disk, off the callers' path.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import threading
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

log = logging.getLogger("holdfast")

MOST_BYTES = 256 * 1024 * 1024  # of all processes of the service on this machine together
_SEGMENT_BYTES = 4 * 1024 * 1024
SEGMENT_RECORDS = 100  # as many as one batch carries
_LOCK = "lock"
_SEGMENT = ".records"
_MOST_LABEL_BYTES = 1024


class SpoolFull(OSError):
    """The spool is as large as it may become."""


class Files(Protocol):
    """What a spool asks of the disk where it may refuse; tests put one that does in its place."""

    def write(self, descriptor: int, content: bytes) -> int:
        """Append; returns how many bytes were."""
        ...

    def sync(self, descriptor: int) -> None:
        """Wait until the device has what was written."""
        ...


class Disk:
    """The real one."""

    def write(self, descriptor: int, content: bytes) -> int:
        return os.write(descriptor, content)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)


class Spool:
    """The records of one process, oldest first. Safe for threads; not to be used after a fork.

    Args:
        root: Shared by the processes of the service; made when first needed, mode 0700.
        label: Who may adopt the records when this process is dead: see `adopt`.

    Attributes:
        damaged: Records that could not be read back, such as the last one of a dead process.
        is_unsynced: Whether `sync` has something to do.
    """

    def __init__(
        self, root: Path, *, label: str = "", files: Files | None = None, most: int = MOST_BYTES
    ) -> None:
        self.root = root
        self.damaged = 0
        self._label = label
        self._files = files or Disk()
        self._most = most
        self._lock = threading.Lock()
        self._directory: Path | None = None
        self._owner: int | None = None  # descriptor of the locked file
        self._active: _Active | None = None
        self._sealed: dict[Path, int] = {}  # size by path, oldest first
        self._made = 0
        self._is_closed = False
        self._foreign_bytes = 0  # of other processes, when last looked at
        self.is_unsynced = False

    def append(self, record: bytes) -> None:
        """Keep a record; it must not contain a line feed.

        Raises:
            SpoolFull: all processes together have as much as they may.
            OSError: the disk refuses.
        """
        line = b"%08x %b\n" % (zlib.crc32(record), record)
        with self._lock:
            if self._size() + len(line) > self._most:
                raise SpoolFull("the spool is full")
            active = self._active_segment(len(line))
            try:
                active.write(line, self._files)
            except OSError:
                self._seal()  # whatever is wrong with it, the next one goes elsewhere
                raise
            self.is_unsynced = True

    def sync(self) -> None:
        """Give what was appended to the disk. Slow."""
        with self._lock:
            active, self.is_unsynced = self._active if self.is_unsynced else None, False
            descriptor = None if active is None else os.dup(active.descriptor)
        if descriptor is not None:
            try:
                self._files.sync(descriptor)
            finally:
                os.close(descriptor)

    def oldest(self) -> Path | None:
        """The segment to be delivered first, to which nothing is added any more."""
        with self._lock:
            if not self._sealed:
                self._seal()
            return next(iter(self._sealed), None)

    def read(self, segment: Path) -> list[bytes]:
        """The records of a segment; torn and damaged ones are left out and counted.

        Raises:
            OSError: it cannot be read.
        """
        records = []
        for line in filter(None, _owned_bytes(segment).split(b"\n")):
            record = _record_of(line)
            if record is None:
                self.damaged += 1
            else:
                records.append(record)
        return records

    def pass_over(self, segment: Path) -> None:
        """Leave a segment that cannot be read to the next process."""
        with self._lock:
            self._sealed.pop(segment, None)

    def remove(self, segment: Path) -> None:
        """Forget a segment whose records were all taken."""
        self.pass_over(segment)
        with contextlib.suppress(OSError):  # delivered again, then: whoever takes them can tell
            os.unlink(segment)

    def relabel(self, label: str) -> None:
        """Say anew who may adopt the records."""
        with self._lock:
            if label != self._label:
                self._label = label
                if self._owner is not None:
                    _write_label(self._owner, label)

    def adopt(self, is_ours: "Label") -> int:
        """Take over what dead processes left, if `is_ours` says so of their label.

        Nothing once it is closed: it would take back what it has just let go of.

        Returns:
            How many segments were taken over.
        """
        with self._lock:
            if self._is_closed or not self.root.is_dir():
                return 0
            adopted = sum(self._adopt(each, is_ours) for each in self._others())
            self._foreign_bytes = sum(_size_of(each) for each in self._others())
            return adopted

    @property
    def is_empty(self) -> bool:
        with self._lock:
            return not self._sealed and (self._active is None or not self._active.records)

    @property
    def size(self) -> int:
        """Bytes of this process's records."""
        with self._lock:
            return self._size() - self._foreign_bytes

    def close(self, *, in_child: bool = False) -> None:
        """Let go of everything, for others to adopt; nothing is lost. It can still be appended to.

        Args:
            in_child: After a fork, when the records and the lock are the parent's.
        """
        self._is_closed = True
        with contextlib.nullcontext() if in_child else self._lock:  # held by a thread long gone
            if self._active is not None:
                os.close(self._active.descriptor)
                self._active = None
            self._sealed.clear()
            owner, self._owner = self._owner, None
            directory, self._directory = self._directory, None
        if owner is None or directory is None:
            return
        if not in_child:
            with contextlib.suppress(OSError):
                if not any(directory.glob("*" + _SEGMENT)):
                    shutil.rmtree(directory)
        os.close(owner)

    # -- below: only for the above, under the lock -----------------------------------------------

    def _size(self) -> int:
        active = 0 if self._active is None else self._active.size
        return sum(self._sealed.values()) + active + self._foreign_bytes

    def _active_segment(self, needed: int) -> "_Active":
        active = self._active
        if active is not None and active.is_full_for(needed):
            self._seal()
        if self._active is None:
            path = self._own_directory() / self._next_name()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._active = _Active(path, os.open(path, flags, 0o600))
        return self._active

    def _seal(self) -> None:
        active, self._active = self._active, None
        if active is None:
            return
        with contextlib.suppress(OSError):  # it is delivered from the page cache, then
            self._files.sync(active.descriptor)
        os.close(active.descriptor)
        if active.records:
            self._sealed[active.path] = active.size
        else:
            with contextlib.suppress(OSError):
                os.unlink(active.path)

    def _next_name(self) -> str:
        self._made += 1
        return f"{self._made:08d}{_SEGMENT}"

    def _own_directory(self) -> Path:
        if self._directory is None:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory = self.root / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
            directory.mkdir(mode=0o700)
            self._owner = _lock_file(directory / _LOCK, create=True)
            _write_label(self._owner, self._label)
            self._directory = directory
        return self._directory

    def _others(self) -> Iterator[Path]:
        with contextlib.suppress(OSError):
            for directory in sorted(self.root.iterdir()):
                if directory != self._directory and _is_own(directory):
                    yield directory

    def _adopt(self, directory: Path, is_ours: "Label") -> int:
        try:
            owner = _lock_file(directory / _LOCK, create=False)
        except OSError:  # it lives, or has only just begun, or is gone
            return 0
        try:
            if not is_ours(os.pread(owner, _MOST_LABEL_BYTES, 0).decode(errors="replace")):
                return 0
            return self._take_all(directory)
        except OSError as error:
            log.warning("holdfast: left-behind records stay where they are (%s)", error.strerror)
            return 0
        finally:
            os.close(owner)

    def _take_all(self, directory: Path) -> int:
        taken = 0
        for path in sorted(directory.glob("*" + _SEGMENT)):
            new = self._own_directory() / self._next_name()
            os.rename(path, new)
            self._sealed[new] = new.stat().st_size
            taken += 1
        shutil.rmtree(directory, ignore_errors=True)
        return taken


class Label(Protocol):
    """Says of a dead process's label whether its records may be adopted."""

    def __call__(self, label: str, /) -> bool: ...


class _Active:
    """The segment that is written to."""

    __slots__ = ("descriptor", "path", "records", "size")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.records = 0
        self.size = 0

    def is_full_for(self, needed: int) -> bool:
        is_long = self.records >= SEGMENT_RECORDS
        return is_long or (self.records > 0 and self.size + needed > _SEGMENT_BYTES)

    def write(self, line: bytes, files: Files) -> None:
        written = 0
        try:
            while written < len(line):
                written += files.write(self.descriptor, line[written:])
        except OSError:
            with contextlib.suppress(OSError):  # else its torn end is passed over when read
                os.ftruncate(self.descriptor, self.size)
            raise
        self.size += len(line)
        self.records += 1


def _record_of(line: bytes) -> bytes | None:
    checksum, _, record = line.partition(b" ")
    return record if checksum == b"%08x" % zlib.crc32(record) else None


def _lock_file(path: Path, *, create: bool) -> int:
    """An open, locked file; raises OSError if another process holds it."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _write_label(descriptor: int, label: str) -> None:
    content = label.encode()[:_MOST_LABEL_BYTES]
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)


def _owned_bytes(path: Path) -> bytes:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(path, flags), "rb") as file:
        return file.read()


def _is_own(directory: Path) -> bool:
    status = directory.lstat()
    is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022
    return is_private and status.st_uid == os.geteuid()


def _size_of(directory: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(path.stat().st_size for path in directory.glob("*" + _SEGMENT))
    return 0
