"""A control plane for tests: a real HTTP server that speaks the contract, and misbehaves on demand.

with PolicyServer() as server:
    server.publish(document(1))
    server.faults = [Fault("garbage")] * 10
"""

import gzip
import hashlib
import json
import queue
import select
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sdk.tests.client.world import SERVER_TIME, TOKEN, encode, iso

_END = b""


@dataclass(frozen=True)
class Fault:
    """What one answer does instead of being right.

    Attributes:
        kind: status, garbage, truncated_gzip, truncated_body, bomb, brotli, drip, hang, drop,
            redirect.
        status: For `status`.
        headers, body: Sent with `status`.
    """

    kind: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


@dataclass
class Seen:
    """One request, as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        content = self.body
        if self.headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        return json.loads(content)


class Desk:
    """The dead letters of a control plane: taken in, handed out, and what became of them.

    Attributes:
        letters: By `dedup_key`, as they came last.
        failures: (`dedup_key`, `last_failed_at`) of every one that counted.
        refused_handlers: Letters for these are invalid.
        told: Every outcome that counted, in order: id and outcome.
        extended: How often each letter's lease was extended.
    """

    def __init__(self) -> None:
        self.letters: dict[str, dict[str, Any]] = {}
        self.failures: list[tuple[str, str]] = []
        self.refused_handlers: set[str] = set()
        self.told: list[tuple[int, str]] = []
        self.errors: list[dict[str, str]] = []
        self.extended: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._offered: list[dict[str, Any]] = []
        self._ended: dict[str, str | None] = {}  # outcomes by claim

    def capture(self, envelope: dict[str, Any]) -> dict[str, Any]:
        assert len(envelope["items"]) <= 100
        with self._lock:
            found = [self._capture(item) for item in envelope["items"]]
        return {"items": [{"index": index} | each for index, each in enumerate(found)]}

    def offer(self, key: int, handler: str, content: Any, /, **members: Any) -> None:
        """A letter that is to be redriven."""
        text = {
            "encoding": "utf-8",
            "content_type": "application/json",
            "data": json.dumps(content),
        }
        given = {
            "id": key,
            "handler": handler,
            "idempotency_key": f"key {key}",
            "redrive_count": 0,
            "headers": {},
            "body": text,
        }
        with self._lock:
            self._offered.append(given | members)

    def claim(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        with self._lock:
            wanted = [item for item in self._offered if item["handler"] in asked["handlers"]]
            given = wanted[: asked["limit"]]
            self._offered = [item for item in self._offered if item not in given]
            claims = [str(uuid.uuid4()) for _ in given]
            self._ended |= dict.fromkeys(claims)
        lease = {"lease_remaining_seconds": asked["lease_seconds"]}
        return [item | {"claim": claim} | lease for item, claim in zip(given, claims, strict=True)]

    def settle(self, envelope: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            return {"items": [self._settle(told) for told in envelope["items"]]}

    def outcomes(self, outcome: str) -> list[int]:
        """The letters with that outcome, each as often as it counted."""
        with self._lock:
            return [key for key, kind in self.told if kind == outcome]

    def _capture(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["handler"] in self.refused_handlers:
            return {"status": "invalid", "errors": {"handler": ["No."]}}
        failure = (item["dedup_key"], item["last_failed_at"])
        is_known = item["dedup_key"] in self.letters
        if failure in self.failures:
            return {"status": "unchanged", "id": 1}
        self.failures.append(failure)
        self.letters[item["dedup_key"]] = item
        return {"status": "updated" if is_known else "created", "id": 1}

    def _settle(self, told: dict[str, Any]) -> dict[str, Any]:
        key, claim, outcome = told["id"], told["claim"], told["outcome"]
        if claim not in self._ended:
            return {"id": key, "status": "unknown"}
        if self._ended[claim] is not None:
            is_same = self._ended[claim] == outcome
            return {"id": key, "status": "accepted" if is_same else "late"}
        if outcome == "extend":
            self.extended[key] += 1
            return {"id": key, "status": "accepted"}
        self._ended[claim] = outcome
        self.told.append((key, outcome))
        self.errors.append(told.get("error") or {})
        return {"id": key, "status": "accepted"}


class PolicyServer:
    """One document, served to pollers and streams, and the reports and letters that came in.

    Attributes:
        faults: Taken from the front, one per poll, None for a right answer; with
            `report_faults`, `stream_faults` and so on for the others.
        token: The only one accepted; other requests get 401.
        server_time: The clock of `Date`, `hello` and `changed`; None: a fixed instant.
        hints: The pace dictated by headers; `retry_ms` for streams.
    """

    def __init__(self, *, port: int = 0, server_time: float | None = None) -> None:
        self.faults: list[Fault | None] = []
        self.report_faults: list[Fault | None] = []
        self.stream_faults: list[Fault | None] = []
        self.letter_faults: list[Fault | None] = []
        self.claim_faults: list[Fault | None] = []
        self.outcome_faults: list[Fault | None] = []
        self.desk = Desk()
        self.token = TOKEN
        self.server_time = server_time
        self.hints = {"Holdfast-Poll-Seconds": "0.05", "Holdfast-Report-Seconds": "0.05"}
        self.retry_ms = 20
        self.seen: list[Seen] = []
        self.report_answer: dict[str, Any] = {}
        self.stream_greets = True
        self._lock = threading.Lock()
        self._body: bytes | None = None
        self._document: dict[str, Any] = {}
        self._streams: list[queue.Queue[bytes]] = []
        self._released = threading.Event()
        self._connections: set[socket.socket] = set()
        self._http = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def __enter__(self) -> "PolicyServer":
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.kill()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Stop listening and cut every connection, as `kill -9` would."""
        self._released.set()
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join(5)
        self._http.server_close()
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            _cut(connection)

    def publish(self, body: dict[str, Any], *, push: bool = False) -> None:
        """Serve a document from now on; `push` sends it to the open streams, too."""
        with self._lock:
            self._document, self._body = body, encode(body)
        if push:
            self.send_event("document", encode(body).decode(), self.event_id)

    def publish_change(self, body: dict[str, Any], *, base: int, **members: Any) -> None:
        """Serve a document, and tell the open streams what of it changed since `base`."""
        self.publish(body)
        meta = body["meta"]
        change = {
            "base": base,
            "revision": meta["revision"],
            "etag": self.etag,
            "server_time": iso(self._now()),
            "published_at": meta["published_at"],
            "changed": members,
        }
        self.send_event("changed", json.dumps(change), self.event_id)

    def send_event(self, name: str, data: str, event_id: str = "") -> None:
        """Send any event to the open streams."""
        lines = f"event: {name}\n" + (f"id: {event_id}\n" if event_id else "")
        self.send_raw(f"{lines}data: {data}\n\n".encode())

    def send_raw(self, content: bytes) -> None:
        """Send bytes to the open streams."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.put(content)

    def end_streams(self) -> None:
        """End the open streams without a word."""
        self.send_raw(_END)

    @property
    def open_streams(self) -> int:
        with self._lock:
            return len(self._streams)

    @property
    def etag(self) -> str:
        meta = self._document["meta"]
        digest = hashlib.sha256(self._body or b"").hexdigest()[:16]
        return f'"{meta["epoch"]}.{meta["revision"]}.{digest}"'

    @property
    def event_id(self) -> str:
        meta = self._document["meta"]
        return f"{meta['epoch']}:{meta['revision']}"

    def requests(self, ending: str, method: str = "GET") -> list[Seen]:
        """The requests for paths with that ending, oldest first."""
        with self._lock:
            seen = list(self.seen)
        return [one for one in seen if one.method == method and one.path.endswith(ending)]

    @property
    def polls(self) -> list[Seen]:
        return self.requests("/policies/checkout")

    @property
    def streams_asked(self) -> list[Seen]:
        return self.requests("/stream")

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The bodies of all reports, repeated ones included."""
        return [seen.json for seen in self.requests("/reports", "POST")]

    @property
    def last_report(self) -> dict[str, Any]:
        """The body of the newest report; an empty one as long as there is none."""
        return (self.reports or [{"refused": [], "dependencies": {}}])[-1]

    # What the handler asks for; in the handler's threads.

    def note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)

    def next_fault(self, faults: list[Fault | None]) -> Fault | None:
        with self._lock:
            return faults.pop(0) if faults else None

    def answer_policy(self, etag: str | None) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            body, headers = self._body, {"Date": self.date(), **self.hints}
        if body is None:
            return 503, {"Retry-After": "0"}, b""
        headers["ETag"] = self.etag
        return (304, headers, b"") if etag == self.etag else (200, headers, body)

    def greeting(self, last_event_id: str | None) -> bytes:
        hello = {
            "epoch": self._document.get("meta", {}).get("epoch"),
            "server_time": iso(self._now()),
            "poll_seconds": float(self.hints["Holdfast-Poll-Seconds"]),
            "report_seconds": float(self.hints["Holdfast-Report-Seconds"]),
        }
        text = f"retry: {self.retry_ms}\nevent: hello\ndata: {json.dumps(hello)}\n\n"
        if self._body is not None and last_event_id != self.event_id:
            text += f"event: document\nid: {self.event_id}\ndata: {self._body.decode()}\n\n"
        return text.encode()

    @contextmanager
    def subscribed(self) -> Iterator["queue.Queue[bytes]"]:
        stream: queue.Queue[bytes] = queue.Queue()
        with self._lock:
            self._streams.append(stream)
        try:
            yield stream
        finally:
            with self._lock:
                self._streams.remove(stream)

    def connected(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def disconnected(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def hang(self) -> None:
        self._released.wait(60)

    def pause(self, seconds: float) -> None:
        self._released.wait(seconds)

    def is_released(self) -> bool:
        return self._released.is_set()

    def date(self) -> str:
        return formatdate(self._now(), usegmt=True)

    def _now(self) -> float:
        return SERVER_TIME if self.server_time is None else self.server_time


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], policy_server: PolicyServer) -> None:
        self.policy_server = policy_server
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def world(self) -> PolicyServer:
        return self.server.policy_server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.world.connected(self.connection)

    def finish(self) -> None:
        self.world.disconnected(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self.note()
        if self.path.endswith("/stream"):
            self.do_stream()
        elif not self.is_refused() and not self.misbehaves(self.world.faults):
            status, headers, body = self.world.answer_policy(self.headers.get("If-None-Match"))
            self.reply(status, headers, body)

    def do_POST(self) -> None:
        seen, world = self.note(), self.world
        doors = {
            "/capture": (world.letter_faults, 201, world.desk.capture),
            "/claim": (world.claim_faults, 200, self.claimed),
            "/outcomes": (world.outcome_faults, 200, world.desk.settle),
        }
        ending = "/" + self.path.rsplit("/", 1)[-1]
        reports = (world.report_faults, 202, lambda _: world.report_answer)
        faults, status, answer = doors.get(ending, reports)
        if not self.is_refused() and not self.misbehaves(faults):
            body = encode(answer(seen.json if ending in doors else None))
            self.reply(status, {"Content-Type": "application/json"}, body)

    def claimed(self, asked: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + asked["wait_seconds"]
        while True:
            items = self.world.desk.claim(asked)
            if items or time.monotonic() > deadline or self.world.is_released():
                return {"items": items}
            self.world.pause(0.01)

    def do_stream(self) -> None:
        if self.is_refused() or self.misbehaves(self.world.stream_faults):
            return
        self.send_response_only(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with self.world.subscribed() as events:
            if self.world.stream_greets:
                self.wfile.write(self.world.greeting(self.headers.get("Last-Event-ID")))
            while not self.world.is_released():
                content = self.next_of(events)
                if content == _END:
                    return
                if content is not None:
                    self.wfile.write(content)

    def next_of(self, events: "queue.Queue[bytes]") -> bytes | None:
        try:
            return events.get(timeout=0.05)
        except queue.Empty:
            return _END if self.is_deserted() else None

    def is_deserted(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def note(self) -> Seen:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers, body)
        self.world.note(seen)
        return seen

    def is_refused(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.world.token}":
            return False
        self.reply(401, {"Content-Type": "application/problem+json"}, b'{"code":"bad_token"}')
        return True

    def misbehaves(self, faults: list[Fault | None]) -> bool:
        fault = self.world.next_fault(faults)
        if fault is None:
            return False
        getattr(self, f"do_{fault.kind}")(fault)
        return True

    def do_status(self, fault: Fault) -> None:
        self.reply(fault.status, fault.headers, fault.body)

    def do_garbage(self, fault: Fault) -> None:
        self.reply(200, self.world.hints, b"<html>gateway</html>")

    def do_truncated_gzip(self, fault: Fault) -> None:
        whole = gzip.compress(encode({"meta": {}, "padding": "x" * 2_000}))
        self.reply(200, {"Content-Encoding": "gzip"}, whole[: len(whole) // 2])

    def do_bomb(self, fault: Fault) -> None:
        self.reply(200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 64_000_000, 6))

    def do_truncated_body(self, fault: Fault) -> None:
        self.send_response_only(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"meta":')
        self.do_drop(fault)

    def do_brotli(self, fault: Fault) -> None:
        self.reply(200, {"Content-Encoding": "br"}, b"\x0b\x02\x80{}\x03")

    def do_drip(self, fault: Fault) -> None:
        """Byte after byte, each well within any read timeout, and never to the end."""
        self.send_response_only(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while not self.world.is_released() and not self.is_deserted():
            self.wfile.write(b" ")
            self.world.pause(0.02)

    def do_redirect(self, fault: Fault) -> None:
        self.reply(302, {"Location": "/api/v1/elsewhere"}, b"")

    def do_hang(self, fault: Fault) -> None:
        self.world.hang()
        self.close_connection = True

    def do_drop(self, fault: Fault) -> None:
        self.close_connection = True
        _cut(self.connection)

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests read `seen`, not a log."""


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster
