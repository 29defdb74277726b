"""Bytes no client of ours would send, to a server over real sockets."""

import re
import socket
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.e2e.processes import Holdfast

SECONDS = 10.0  # a test that waits longer has failed
POLICY = "/api/v1/policies/checkout"
STREAM = f"{POLICY}/stream"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    with Holdfast(tmp_path_factory.mktemp("holdfast")) as started:
        yield started


@pytest.fixture(scope="module")
def token(server: Holdfast) -> str:
    return server.token("policies:read", "reports:write", "wall:read")


def status(server: Holdfast, request: bytes) -> int:
    """Status of the answer to these bytes; 0 if the server hung up without one."""
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
        connection.sendall(request)
        line = connection.makefile("rb").readline()
    return int(line.split()[1]) if line else 0


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", *headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(*headers: str, body: str = "{}") -> bytes:
    lines = ["POST /api/v1/reports HTTP/1.1", "Host: localhost", *headers, "", body]
    return "\r\n".join(lines).encode("latin-1")


@pytest.mark.parametrize("path", [POLICY, STREAM])
class TestHeaders:
    def test_two_tokens_are_none(self, server: Holdfast, token: str, path: str) -> None:
        bearer = f"Authorization: Bearer {token}"

        assert status(server, get(path, "Host: localhost", bearer)) == 200
        assert status(server, get(path, "Host: localhost", bearer, bearer)) == 401

    @pytest.mark.parametrize(
        "value", ["Bearer \xff\xfe", "Basic {}", "Bearer", "{}", "Bearer {} x"]
    )
    def test_what_is_no_token_is_401(
        self, server: Holdfast, token: str, path: str, value: str
    ) -> None:
        header = f"Authorization: {value.format(token)}"

        assert status(server, get(path, "Host: localhost", header)) == 401

    def test_the_scheme_is_read_in_any_case(self, server: Holdfast, token: str, path: str) -> None:
        assert status(server, get(path, "Host: localhost", f"authorization: bEARER {token}")) == 200

    @pytest.mark.parametrize("hosts", [["evil.example"], ["localhost", "evil.example"], ["a b"]])
    def test_other_hosts_are_400(
        self, server: Holdfast, token: str, path: str, hosts: list[str]
    ) -> None:
        headers = [*(f"Host: {host}" for host in hosts), f"Authorization: Bearer {token}"]

        assert status(server, get(path, *headers)) == 400

    def test_a_token_in_the_address_opens_nothing(
        self, server: Holdfast, token: str, path: str
    ) -> None:
        assert (
            status(server, get(f"{path}?token={token}&access_token={token}", "Host: localhost"))
            == 401
        )


class TestFraming:
    """Two readers of one connection must not see two different requests."""

    @pytest.mark.parametrize(
        "headers",
        [
            ["Content-Length: 2", "Content-Length: 3"],
            ["Content-Length: 2", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
            ["Content-Length: -2"],
            ["Content-Length: +2"],
            ["Content-Length: 2", "X-A: a\x00b"],
            ["Content-Length: 2", "X-A: a\r\n folded"],
            ["Content-Length : 2"],
        ],
        ids=str,
    )
    def test_what_can_be_read_in_two_ways_is_refused(
        self, server: Holdfast, headers: list[str]
    ) -> None:
        assert status(server, post(*headers)) == 400

    def test_a_body_no_route_takes_is_not_waited_for(self, server: Holdfast) -> None:
        assert status(server, post("Content-Length: 999999999999")) == 413


class TestLogs:
    def test_nobody_writes_lines_of_their_own(self, server: Holdfast, token: str) -> None:
        line = "%0a%7b%22event%22%3a%22FORGED%22%7d%1b%5b31m"
        agent = "User-Agent: FORGED \x1b[31m"
        for path in (f"/{line}", f"/api/v1/policies/{line}", f"/api/v1/policies/{line}/stream"):
            status(server, get(path, "Host: localhost", f"Authorization: Bearer {token}"))
            status(server, get(path, "Host: localhost", agent, f"X-Request-ID: a{line}"))
        httpx.get(f"{server.url}/nowhere")  # its line comes after those of all others

        lines = [each for each in server.log.splitlines() if "FORGED" in each]

        assert lines
        assert all(each.startswith("{") and "\x1b" not in each for each in lines)
        assert [each for each in lines if re.search(r'^\{"event": ?"FORGED"', each)] == []

    def test_no_secret_is_in_them(self, server: Holdfast, token: str) -> None:
        httpx.get(f"{server.url}/wall/", params={"token": token})
        status(server, get(f"{POLICY}?token={token}", "Host: localhost"))

        assert token[-43:] not in server.log
        assert server.password not in server.log


class TestSocketOfTheWall:
    def look(self, server: Holdfast, token: str, origin: str = "") -> ClientConnection:
        screen = httpx.get(f"{server.url}/wall/", params={"token": token})
        cookie = f"holdfast_kiosk={screen.cookies['holdfast_kiosk']}"
        return connect(
            f"ws://127.0.0.1:{server.port}/ws/wall/",
            origin=Origin(origin or server.url),
            additional_headers={"Cookie": cookie},
            open_timeout=SECONDS,
        )

    def test_opens_for_pages_of_this_server(self, server: Holdfast, token: str) -> None:
        with self.look(server, token) as socket_:
            assert '"type":"frame"' in socket_.recv(SECONDS)

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"]
    )
    def test_does_not_for_others(self, server: Holdfast, token: str, origin: str) -> None:
        with pytest.raises(InvalidStatus) as refused:
            self.look(server, token, origin)

        assert refused.value.response.status_code == 403

    @pytest.mark.parametrize(
        ("message", "code"), [("hello", 1008), (b"\0", 1008), ("x" * 70_000, 1009)]
    )
    def test_hangs_up_on_whoever_speaks(
        self, server: Holdfast, token: str, message: str | bytes, code: int
    ) -> None:
        with self.look(server, token) as socket_:
            socket_.send(message)

            with pytest.raises(ConnectionClosed) as closed:
                list(socket_)

        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
