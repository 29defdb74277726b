"""A dependency on a real port that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

Answer = tuple[int, dict[str, str]]
OK: Answer = (200, {})


class Bank(ThreadingHTTPServer):
    """Gives the answers put into it, in their order, then 200.

    Attributes:
        seen: Method and body of every request, oldest first.
        headers: Their headers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: deque[Answer] = deque()
        self.seen: list[tuple[str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.released = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def will_answer(self, *answers: int | Answer) -> None:
        self.answers.extend(each if isinstance(each, tuple) else (each, {}) for each in answers)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bank

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, body))
        self.server.headers.append(dict(self.headers))
        status, headers = self.server.answers.popleft() if self.server.answers else OK
        if status == 0:  # hangs
            self.server.released.wait(10)
            return
        text = f"answer {len(self.server.seen)}".encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Tests say what matters."""


@contextmanager
def running() -> Iterator[Bank]:
    bank = Bank()
    thread = Thread(target=bank.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield bank
    finally:
        bank.released.set()
        bank.shutdown()
        bank.server_close()
        thread.join(10)
