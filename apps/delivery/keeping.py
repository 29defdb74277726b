"""What was last published, on disk, so that a process that starts without its database can serve.

Of tokens it holds what the database does: verifiers, no secrets. Nobody else may read the file.
"""

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import structlog
from django.conf import settings

from apps.core.pace import Pace
from apps.delivery.rules import Origin
from apps.delivery.snapshot import Key, Piece, Snapshot, place_of

log = structlog.get_logger(__name__)

NAME = "published.msgpack"
SCHEMA = 1
EVERY_SECONDS = 10.0  # it is looked whether the file must be written


class _Place(msgspec.Struct, frozen=True):
    environment_id: int
    origin: Origin
    revision: int
    published_at: dict[int, str]
    pieces: list[Piece]


class _Kept(msgspec.Struct, frozen=True):
    schema: int
    database: str
    epoch: str
    places: list[_Place]
    keys: list[Key]


class Published:
    """The file. Its time stamp says when the database was last reached."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: Snapshot | None = None

    def keep(self, snapshot: Snapshot) -> None:
        """Have the file say this, and no more than its age where it says it already.

        Waits for the disk, so it is not for those who hand on what is published. A disk that is
        full or broken is logged; whatever was kept stays.
        """
        reached = time.time() - (time.monotonic() - snapshot.reached_at)
        try:
            if not _is_same(self._kept, snapshot):
                self._write(_encoder.encode(_packed(snapshot)))
                self._kept = snapshot
            os.utime(self._path, (reached, reached))
        except OSError as error:
            self._kept = None
            log.warning("published.not_kept", error=type(error).__name__, detail=error.strerror)

    def read(self, pace: Pace) -> Snapshot | None:
        """What was kept, as old as it is; None if there is nothing, or not of this database."""
        try:
            age = max(0.0, time.time() - self._path.stat().st_mtime)
            kept = _decoder.decode(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("published.unreadable", error=type(error).__name__)
            return None
        if kept.schema != SCHEMA or kept.database != _database():
            return None
        places = {
            each.environment_id: place_of(
                each.origin, each.revision, each.pieces, dict(each.published_at)
            )
            for each in kept.places
        }
        keys = {key.selector: key for key in kept.keys}
        return Snapshot(kept.epoch, places, keys, pace, time.monotonic() - age)

    def _write(self, content: bytes) -> None:
        """Replace the file as a whole: a reader finds the old one or the new one."""
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{NAME}-")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[_Kept] = msgspec.msgpack.Decoder(_Kept)


def _packed(snapshot: Snapshot) -> _Kept:
    places = [
        _Place(
            environment_id,
            place.origin,
            place.revision,
            place.published_at,
            [
                *place.shared.values(),
                *(each for own in place.own.values() for each in own.values()),
            ],
        )
        for environment_id, place in snapshot.places.items()
    ]
    return _Kept(SCHEMA, _database(), snapshot.epoch, places, list(snapshot.keys.values()))


def _is_same(kept: Snapshot | None, snapshot: Snapshot) -> bool:
    """Whether nothing was published and no token changed since; places are kept until they do."""
    if kept is None or kept.epoch != snapshot.epoch or kept.keys != snapshot.keys:
        return False
    return kept.places.keys() == snapshot.places.keys() and all(
        kept.places[pk] is place for pk, place in snapshot.places.items()
    )


def _database() -> str:
    """Which database it is of, without its password: another one's policies must not be served."""
    known: dict[str, Any] = settings.DATABASES["default"]
    where = "\0".join(str(known.get(part, "")) for part in ("ENGINE", "HOST", "PORT", "NAME"))
    return hashlib.sha256(where.encode()).hexdigest()
