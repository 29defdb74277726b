"""HTTP to the control plane: bounded in time and size, the token in one header and nowhere else."""

import contextlib
import gzip
import os
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import msgspec

from holdfast._settings import Settings, Timing
from holdfast.clock import Clock

if TYPE_CHECKING:
    import httpx

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024  # after decompression
_MAX_REPLY_BYTES = 64 * 1024  # to a report
_MAX_VERDICTS_BYTES = 4 * 1024 * 1024  # to a batch, with what is wrong with each of its items
_MAX_LETTER_BYTES = 96 * 1024 * 1024  # a body of 50 MiB, and JSON around it
_GZIP_FROM_BYTES = 1024  # below this a report does not get smaller
_IDLE_SECONDS = 4.0  # under uvicorn's 5 s: a reused connection is one the server still holds


class TransportFailed(Exception):
    """No usable answer came; `kind` is a word for logs and never quotes the request."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


_LONGEST_REASON = 300  # characters


class Answer(msgspec.Struct, frozen=True):
    """What came back, whatever its status.

    Attributes:
        headers: Lower-case names.
        body: Decompressed.
        asked_at, received_at: When the request left and the headers arrived; monotonic seconds.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    asked_at: float
    received_at: float

    @property
    def reason(self) -> str:
        """What the server found wrong, on one line, if it says so as problem details."""
        try:
            problem = msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, RecursionError):
            return ""
        if not isinstance(problem, Mapping):
            return ""
        found = [problem.get("detail"), *_texts(problem.get("errors"))]
        words = " ".join(text for text in found if isinstance(text, str)).split()
        return " ".join(words)[:_LONGEST_REASON]

    @property
    def said(self) -> str:
        """Status and reason, for people."""
        return f"{self.status}: {self.reason}" if self.reason else str(self.status)


def _texts(errors: object) -> list[Any]:
    if not isinstance(errors, Mapping):
        return []
    return [text for texts in errors.values() if isinstance(texts, list) for text in texts]


class EventStream:
    """An open answer that is read piece by piece, and can be cut from another thread."""

    def __init__(self, response: "httpx.Response", asked_at: float) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)
        self.asked_at = asked_at
        self._response = response

    def chunks(self) -> Iterator[bytes]:
        """The bytes as they come.

        Raises:
            TransportFailed: the connection broke, or was silent for too long.
        """
        with _failures_named():
            yield from self._response.iter_raw()

    def cut(self) -> None:
        """End the stream at once; the reading thread sees its end."""
        network = self._response.extensions.get("network_stream")
        sock = network.get_extra_info("socket") if network is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):  # already closed: that is what we want
                # Past SSLSocket.shutdown, which would pull the TLS state from under the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Transport:
    """The requests the SDK makes, over one pooled connection; safe for several threads."""

    def __init__(
        self, settings: Settings, instance: str, clock: Clock, timing: Timing | None = None
    ) -> None:
        self._settings = settings
        self._instance = instance
        self._clock = clock
        self._timing = timing or Timing()
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Transport to {self._settings.url}>"

    def fetch_policy(self, etag: str | None = None) -> Answer:
        """Ask for the document, or for a 304 if it still is the one with `etag`.

        Raises:
            TransportFailed: no answer, a broken one, or one over 4 MiB.
        """
        headers = {"If-None-Match": etag} if etag else {}
        return self._exchange("GET", self._policy_path(), headers, None, MAX_DOCUMENT_BYTES)

    def send_report(self, body: bytes, *, seconds: float | None = None) -> Answer:
        """Hand in a report; `seconds` bounds the whole exchange where the default is too long.

        Raises:
            TransportFailed: no answer, or a broken one.
        """
        return self._post("/api/v1/reports", body, _MAX_REPLY_BYTES, seconds)

    def send_letters(self, items: bytes, *, seconds: float | None = None) -> Answer:
        """Hand in dead letters: JSON of them, with commas between.

        Raises:
            TransportFailed: no answer, or a broken one.
        """
        path = "/api/v1/dead-letters/capture"
        return self._post(path, self._envelope(items), _MAX_VERDICTS_BYTES, seconds)

    def send_outcomes(self, items: bytes, *, seconds: float | None = None) -> Answer:
        """Say what became of claimed letters: JSON of the outcomes, with commas between.

        Raises:
            TransportFailed: no answer, or a broken one.
        """
        path = "/api/v1/redrives/outcomes"
        return self._post(path, self._envelope(items), _MAX_VERDICTS_BYTES, seconds)

    def claim(
        self, handlers: Sequence[str], *, lease_seconds: float, wait_seconds: float
    ) -> Answer:
        """Ask for one letter that one of the handlers is to try again, and wait for it.

        Raises:
            TransportFailed: no answer, or a broken one.
        """
        wanted = {
            "service": self._settings.service,
            "handlers": handlers,
            "limit": 1,
            "lease_seconds": int(lease_seconds),
            "wait_seconds": wait_seconds,
        }
        seconds = wait_seconds + self._timing.request_seconds
        body = msgspec.json.encode(wanted)
        return self._post("/api/v1/redrives/claim", body, _MAX_LETTER_BYTES, seconds)

    @contextlib.contextmanager
    def open_stream(self, last_event_id: str | None = None) -> Iterator[EventStream]:
        """Open the event stream; its answer may also be a refusal.

        Raises:
            TransportFailed: no answer.
        """
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        asked_at = self._clock.monotonic()
        with contextlib.ExitStack() as stack:
            with _failures_named():
                response = stack.enter_context(
                    self._http().stream(
                        "GET",
                        self._policy_path() + "/stream",
                        headers=headers,
                        timeout=self._timeout(read=self._timing.silence_seconds),
                    )
                )
            yield EventStream(response, asked_at)

    def close(self) -> None:
        """Close the connections; no request can be made any more."""
        with self._lock:
            self._is_closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _envelope(self, items: bytes) -> bytes:
        service = msgspec.json.encode(self._settings.service)
        return b'{"service":' + service + b',"items":[' + items + b"]}"

    def _post(self, path: str, body: bytes, cap: int, seconds: float | None) -> Answer:
        headers = {"Content-Type": "application/json"}
        if len(body) >= _GZIP_FROM_BYTES:
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=5)
        return self._exchange("POST", path, headers, body, cap, seconds)

    def _exchange(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        content: bytes | None,
        cap: int,
        seconds: float | None = None,
    ) -> Answer:
        longest = seconds or self._timing.request_seconds
        deadline = time.monotonic() + longest
        asked_at = self._clock.monotonic()
        timeout = self._timeout(read=longest)
        with (
            _failures_named(),
            self._http().stream(
                method, path, headers=headers, content=content, timeout=timeout
            ) as response,
        ):
            received_at = self._clock.monotonic()
            encoding = response.headers.get("content-encoding", "")
            chunks = _until(deadline, response.iter_raw())
            body = _collect(_decoded(chunks, encoding, cap), cap)
            return Answer(response.status_code, dict(response.headers), body, asked_at, received_at)

    def _policy_path(self) -> str:
        return f"/api/v1/policies/{quote(self._settings.service, safe='')}"

    def _timeout(self, *, read: float) -> "httpx.Timeout":
        with _importing:  # every exchange asks here first
            import httpx  # not above: importing holdfast must stay cheap, its spec free of HTTP

        return httpx.Timeout(min(read, self._timing.request_seconds), read=read)

    def _http(self) -> "httpx.Client":
        with self._lock:
            if self._is_closed:
                raise TransportFailed("Closed")
            if self._client is None:
                with _importing:  # httpx imports the half of itself only now
                    self._client = self._connected()
            return self._client

    def _connected(self) -> "httpx.Client":
        import encodings.idna  # noqa: F401 - which the first look-up of a host's name would import

        import httpx

        from holdfast import __version__

        headers = {
            "Authorization": f"Bearer {self._settings.token}",
            "Accept-Encoding": "gzip",
            "User-Agent": f"holdfast-python/{__version__}",
            "Holdfast-Instance": self._instance,
        }
        limits = httpx.Limits(max_connections=8, keepalive_expiry=_IDLE_SECONDS)
        return httpx.Client(base_url=self._settings.url, headers=headers, limits=limits)


_importing = threading.Lock()
"""Held while httpx is imported, and while a process forks: a child that was forked in the middle of
an import would wait for ever for the end of it."""

os.register_at_fork(
    before=_importing.acquire,
    after_in_parent=_importing.release,
    after_in_child=_importing.release,
)


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    """Turn whatever the network does into `TransportFailed`, without its request attached."""
    import httpx

    try:
        yield
    except TransportFailed:
        raise
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        _fail(type(error).__name__)
    except (OSError, ValueError, zlib.error) as error:  # a socket cut under the reader
        _fail(type(error).__name__)


def _fail(kind: str) -> NoReturn:
    raise TransportFailed(kind) from None


def _until(deadline: float, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass chunks on until real time `deadline`: a dripping server must not hold a thread."""
    for chunk in chunks:
        yield chunk
        if time.monotonic() > deadline:
            raise TransportFailed("TooSlow")


def _decoded(chunks: Iterable[bytes], encoding: str, cap: int) -> Iterator[bytes]:
    """Inflate as it comes. httpx takes a truncated gzip for a whole one, so this is our own."""
    if encoding in {"", "identity"}:
        yield from chunks
        return
    if encoding != "gzip":
        raise TransportFailed("UnknownEncoding")
    inflater: Any = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        yield inflater.decompress(chunk, cap + 1)
    if not inflater.eof:
        raise TransportFailed("TruncatedGzip")


def _collect(chunks: Iterable[bytes], cap: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > cap:
            raise TransportFailed("TooLarge")
    return bytes(body)
