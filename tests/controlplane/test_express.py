"""The short way for policies and reports says what uvicorn's own way says, to whatever is sent."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from apps.core.parsers import MAX_BODY
from apps.core.replies import Headers, Reply, send_reply
from controlplane.express import ExpressProtocol

POLICY = b"GET /api/v1/policies/checkout HTTP/1.1\r\nHost: a\r\n\r\n"
SLOW = POLICY.replace(b"checkout", b"later")
OTHER = POLICY.replace(b"policies/checkout", b"environments")
REPORT = b"POST /api/v1/reports HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /api/v1/reports HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
)
SECONDS = 10.0
ROUNDS = 20  # of the event loop, in which the server has read what it was sent
LARGE = b"x" * (MAX_BODY + 1)
# What is sent, in pieces; how many answers that makes; how many of them go the short way.
SENT: dict[str, tuple[list[bytes], int, int]] = {
    "policy": ([POLICY], 1, 1),
    "query": ([POLICY.replace(b"checkout", b"checkout?environment=x&a=%C3")], 1, 0),
    "plain query": ([POLICY.replace(b"checkout", b"checkout?environment=x")], 1, 1),
    "HEAD": ([POLICY.replace(b"GET", b"HEAD")], 1, 1),
    "in pieces": ([POLICY[:9], POLICY[9:30], POLICY[30:]], 1, 1),
    "one after the other": ([POLICY, REPORT, POLICY], 3, 3),
    "pipelined": ([POLICY + REPORT + POLICY], 3, 3),
    "pipelined behind one that waits": ([POLICY + SLOW + POLICY + REPORT], 4, 1),
    "pipelined behind another": ([OTHER + POLICY], 2, 0),
    "after one that waited": ([SLOW, POLICY], 2, 1),
    "report": ([REPORT], 1, 1),
    "report in pieces": ([REPORT[:-4], REPORT[-4:-1], REPORT[-1:]], 1, 1),
    "chunked report": ([CHUNKED], 1, 1),
    "large report": ([REPORT.replace(b"5\r\n\r\nhello", b"%d\r\n\r\n" % len(LARGE)), LARGE], 1, 0),
    "announced to be large": ([REPORT.replace(b"5\r\n\r\nhello", b"9999999\r\n\r\n")], 0, 0),
    "another method": ([REPORT.replace(b"POST", b"PUT")], 1, 0),
    "escaped": ([POLICY.replace(b"checkout", b"check%6Fut")], 1, 0),
    "fragment": ([POLICY.replace(b"checkout", b"checkout#x")], 1, 0),
    "absolute": ([POLICY.replace(b"/api", b"http://a/api")], 1, 0),
    "HTTP/1.0": ([POLICY.replace(b"1.1", b"1.0")], 1, 0),
    "close": ([POLICY.replace(b"Host: a", b"Connection: close")], 1, 0),
    "expectation": ([REPORT.replace(b"Host: a", b"Expect: 100-continue")], 2, 0),
    "upgrade": ([POLICY.replace(b"Host: a", b"Connection: upgrade\r\nUpgrade: h2c")], 1, 0),
    "fault": ([POLICY.replace(b"checkout", b"fault")], 1, 0),
    "no HTTP": ([b"\x16\x03\x01\r\n\r\n"], 1, 0),
}


@dataclass
class Application:
    """Says what it was asked, by either way; what it answered at once is noted."""

    at_once_: list[str] = field(default_factory=list)

    def at_once(self, scope: Any, body: bytes) -> tuple[bytes, Reply] | None:
        if scope["path"].endswith("later"):
            return None
        if scope["path"].endswith("fault"):
            raise ValueError(scope["path"])
        self.at_once_.append(scope["path"])
        return b"some-id", self._reply(scope, body)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        status, headers, content = self._reply(scope, body)
        await send_reply(send, (status, Headers({**headers, "X-Request-Id": "some-id"}), content))

    @staticmethod
    def _reply(scope: Any, body: bytes) -> Reply:
        asked = [scope["method"], scope["path"], scope["raw_path"], scope["query_string"]]
        content = b"%s %d" % (repr([*asked, scope["headers"]]).encode(), len(body))
        headers = Headers({"Date": "then", "Content-Length": f"{len(content)}"})
        return 200, headers, b"" if scope["method"] == "HEAD" else content


async def conversation(
    protocol: Callable[..., Any], app: Any, pieces: list[bytes], answers: int
) -> bytes:
    """All that the server says until it was given every piece and has said so many answers."""
    config = Config(app, log_config=None, lifespan="off", access_log=False)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    for piece in pieces:
        writer.write(piece)
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
    said = b""
    async with asyncio.timeout(SECONDS):
        while said.count(b"HTTP/1.1 ") < answers:
            said += await reader.read(65_536)
    for each in list(state.connections):
        each.transport.close()
    said += await reader.read()
    writer.close()
    server.close()
    return said


@pytest.mark.parametrize("name", SENT)
def test_both_ways_say_the_same(name: str) -> None:
    pieces, answers, quick = SENT[name]
    usual, express = Application(), Application()

    class Express(ExpressProtocol):
        at_once = staticmethod(express.at_once)

    expected = asyncio.run(conversation(HttpToolsProtocol, usual, pieces, answers))
    said = asyncio.run(conversation(Express, express, pieces, answers))

    assert said.lower() == expected.lower()
    assert said.count(b"HTTP/1.1 ") == answers
    assert len(express.at_once_) == quick
