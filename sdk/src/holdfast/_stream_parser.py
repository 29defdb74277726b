"""Server-sent events, parsed as they arrive.

Source: WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6.
"""

from collections.abc import Iterator

import msgspec

_BOM = b"\xef\xbb\xbf"


class StreamBroken(Exception):
    """The peer sent what no event stream may contain, or more than we accept."""


class Event(msgspec.Struct, frozen=True):
    """One dispatched event; `id` is the last one seen, on this event or an earlier one."""

    name: str
    data: str
    id: str


class EventParser:
    """Turn bytes into events, whatever the cuts between chunks.

    Attributes:
        retry_seconds: What the server asked for as reconnection time; None until it does.
    """

    def __init__(self, max_bytes: int) -> None:
        self.retry_seconds: float | None = None
        self._max_bytes = max_bytes  # of one line, and of one event's data
        self._line = bytearray()
        self._after_cr = False
        self._started = False
        self._name = ""
        self._data: list[str] = []
        self._size = 0
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that `chunk` completes.

        Raises:
            StreamBroken: a line or an event is too long, or is not UTF-8.
        """
        for line in self._lines(chunk):
            event = self._take(line)
            if event is not None:
                yield event

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        """Complete lines; they end in CR, LF or both, and the pair may be cut in two."""
        if not chunk:
            return
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        pieces = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for piece in pieces[:-1]:
            self._append(piece)
            yield self._whole_line()
        self._append(pieces[-1])

    def _append(self, piece: bytes) -> None:
        self._line += piece
        if len(self._line) > self._max_bytes:
            raise StreamBroken("line too long")

    def _whole_line(self) -> bytes:
        line = bytes(self._line)
        self._line.clear()
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        return line

    def _take(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            return None
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise StreamBroken("not UTF-8") from error
        name, _, value = text.partition(":")
        self._field(name, value.removeprefix(" "))
        return None

    def _field(self, name: str, value: str) -> None:
        if name == "data":
            self._size += len(value) + 1
            if self._size > self._max_bytes:
                raise StreamBroken("event too long")
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_seconds = min(int(value[:9]) / 1000, 3600.0)

    def _dispatch(self) -> Event | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return Event(name, "\n".join(data), self._id) if data else None
