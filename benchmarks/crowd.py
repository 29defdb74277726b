"""A process of many light streams: `URL TOKEN STREAMS SERVICES`.

It prints "ready" when each has its document, and at the end of its input one line of JSON: for each
stream the revisions it had since then, each with the instant. A stream is a socket whose ids are
read: what a client in another language would do besides is not measured.
"""

import asyncio
import json
import re
import sys
import time
import uuid
from urllib.parse import urlsplit

AT_ONCE = 50  # streams that are being opened
ID = re.compile(rb"^id: [^:]+:(\d+)", re.MULTILINE)


class Stream(asyncio.Protocol):
    """Notes when it had which revision."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.had: list[tuple[int, float]] = []
        self.has_document = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self.had.extend((int(found), now) for found in ID.findall(data))
        if self.had and not self.has_document.done():
            self.has_document.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.has_document.done():
            self.has_document.set_exception(error or ConnectionError("the stream ended"))


async def follow(
    url: str, token: str, streams: int, services: int
) -> list[list[tuple[int, float]]]:
    port = urlsplit(url).port or 80
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)

    async def opened(number: int) -> Stream:
        head = (
            f"GET /api/v1/policies/service-{number % services}/stream HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
            f"Holdfast-Instance: {uuid.uuid4()}\r\n\r\n"
        ).encode()
        async with gate:
            _transport, stream = await loop.create_connection(
                lambda: Stream(head), "127.0.0.1", port
            )
            await asyncio.wait_for(stream.has_document, 30)
            return stream

    crowd = await asyncio.gather(*(opened(number) for number in range(streams)))
    for stream in crowd:
        stream.had.clear()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    return [stream.had for stream in crowd]


if __name__ == "__main__":
    url, token, streams, services = sys.argv[1:]
    print(json.dumps(asyncio.run(follow(url, token, int(streams), int(services)))), flush=True)
