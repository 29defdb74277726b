"""A server that speaks Redis' protocol and says what no Redis would."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def liar(*, ping: bytes = b"+PONG\r\n", info: bytes = b"") -> Iterator[str]:
    """Its URL. It answers PING and INFO with these, GET with what was SET, all else with OK."""

    class Lying(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError):
                while words := self.words():
                    self.wfile.write(self.answer(*words))

        def words(self) -> list[bytes]:
            number = int(self.rfile.readline()[1:] or 0)
            return [self.word() for _number in range(number)]

        def word(self) -> bytes:
            length = int(self.rfile.readline()[1:])
            return self.rfile.read(length + 2)[:-2]

        def answer(self, command: bytes, *words: bytes) -> bytes:
            if command == b"PING":
                return ping
            if command == b"SET":
                kept[:] = [words[1]]
            said = {b"INFO": info, b"GET": b"".join(kept)}.get(command)
            return b"+OK\r\n" if said is None else b"$%d\r\n%s\r\n" % (len(said), said)

    kept: list[bytes] = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Lying) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        finally:
            server.shutdown()
