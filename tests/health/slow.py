"""A server that answers late."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


@contextmanager
def slow(url: str, seconds: float) -> Iterator[str]:
    """The server of this URL by another one, from which each answer comes that much later."""
    parts = urlsplit(url)
    behind = (parts.hostname or "", parts.port or 0)
    over = threading.Event()

    class Late(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(behind) as server:
                threading.Thread(target=self.ask, args=[server], daemon=True).start()
                while answer := server.recv(65_536):
                    over.wait(seconds)
                    self.request.sendall(answer)

        def ask(self, server: socket.socket) -> None:
            with suppress(OSError):  # one of both has gone
                while asked := self.request.recv(65_536):
                    server.sendall(asked)
                server.shutdown(socket.SHUT_WR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that gave up is what comes of being late."""

    with Server(("127.0.0.1", 0), Late) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
        thread.start()
        place = parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{server.server_address[1]}"
        try:
            yield urlunsplit(parts._replace(netloc=place))
        finally:
            over.set()
            server.shutdown()
