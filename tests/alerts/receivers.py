"""Real receivers on this machine: of webhooks, of mail, and one that never answers."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class Hook:
    """A webhook's receiver: the statuses it still answers with (then 204), and what it got."""

    address: str = ""
    answers: list[int] = field(default_factory=list)
    got: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def hook(*answers: int) -> Iterator[Hook]:
    """A receiver that answers with these statuses first."""
    received = Hook(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.got.append(json.loads(body))
            received.headers.append(dict(self.headers))
            self.send_response(received.answers.pop(0) if received.answers else 204)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Nothing: the test looks at what came."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    received.address = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def hung() -> Iterator[str]:
    """The address of a receiver that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook"


@dataclass
class Mailbox:
    address: str = ""
    got: list[tuple[list[str], str, str]] = field(default_factory=list)  # to, subject, text

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        message = message_from_bytes(envelope.original_content or b"")
        text = next(part for part in message.walk() if part.get_content_type() == "text/plain")
        payload = text.get_payload(decode=True)
        assert isinstance(payload, bytes)
        self.got.append((envelope.rcpt_tos, str(message["Subject"]), payload.decode()))
        return "250 kept"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A real SMTP server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    received = Mailbox()
    controller = Controller(received, hostname="127.0.0.1", port=port)
    controller.start()
    received.address = f"mailto://127.0.0.1:{port}?to=ops@example.org&from=holdfast@example.org"
    try:
        yield received
    finally:
        controller.stop()
