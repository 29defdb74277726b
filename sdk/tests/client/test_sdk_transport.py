"""HTTP that is bounded in time and size, and keeps the token to itself."""

import logging
from collections.abc import Iterator

import pytest

from holdfast._settings import Timing
from holdfast._transport import Transport, TransportFailed
from sdk.tests.client.server import Fault, PolicyServer
from sdk.tests.client.world import QUICK, TOKEN, FakeClock, document, settings


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        server.publish(document(1))
        yield server


@pytest.fixture
def transport(server: PolicyServer) -> Iterator[Transport]:
    transport = Transport(settings(server.url), "instance-1", FakeClock(), QUICK)
    yield transport
    transport.close()


class TestFetch:
    def test_a_document_comes_with_its_validator(
        self, server: PolicyServer, transport: Transport
    ) -> None:
        answer = transport.fetch_policy()

        assert (answer.status, answer.headers["etag"]) == (200, server.etag)

    def test_the_validator_gets_a_304(self, server: PolicyServer, transport: Transport) -> None:
        assert transport.fetch_policy(server.etag).status == 304

    def test_the_server_learns_which_instance_asks(
        self, server: PolicyServer, transport: Transport
    ) -> None:
        transport.fetch_policy()

        headers = server.polls[0].headers
        assert headers["holdfast-instance"] == "instance-1"
        assert headers["user-agent"].startswith("holdfast-python/")

    @pytest.mark.parametrize("kind", ["truncated_gzip", "truncated_body", "bomb", "drop"])
    def test_a_broken_answer_is_a_failure_not_half_a_document(
        self, server: PolicyServer, transport: Transport, kind: str
    ) -> None:
        server.faults = [Fault(kind)]

        with pytest.raises(TransportFailed):
            transport.fetch_policy()

    def test_a_hanging_server_does_not_hold_the_thread(self, server: PolicyServer) -> None:
        server.faults = [Fault("hang")]
        transport = Transport(settings(server.url), "i", FakeClock(), Timing(request_seconds=0.05))

        with pytest.raises(TransportFailed, match="ReadTimeout"):
            transport.fetch_policy()
        transport.close()

    def test_a_dead_server_is_a_failure(self, server: PolicyServer, transport: Transport) -> None:
        server.kill()

        with pytest.raises(TransportFailed, match="ConnectError"):
            transport.fetch_policy()

    def test_a_redirect_is_not_followed_so_that_the_token_stays_here(
        self, server: PolicyServer, transport: Transport
    ) -> None:
        server.faults = [Fault("redirect")]

        assert transport.fetch_policy().status == 302
        assert len(server.seen) == 1

    def test_after_its_close_nothing_is_asked_any_more(
        self, server: PolicyServer, transport: Transport
    ) -> None:
        transport.close()

        with pytest.raises(TransportFailed, match="Closed"):
            transport.fetch_policy()
        assert server.seen == []

    def test_a_dripping_server_does_not_hold_the_thread(self, server: PolicyServer) -> None:
        server.faults = [Fault("drip")]
        transport = Transport(settings(server.url), "i", FakeClock(), Timing(request_seconds=0.3))

        with pytest.raises(TransportFailed, match="TooSlow"):
            transport.fetch_policy()
        transport.close()

    def test_an_encoding_nobody_asked_for_is_a_failure(
        self, server: PolicyServer, transport: Transport
    ) -> None:
        server.faults = [Fault("brotli")]

        with pytest.raises(TransportFailed, match="UnknownEncoding"):
            transport.fetch_policy()


class TestReport:
    def test_a_large_report_travels_compressed(
        self, server: PolicyServer, transport: Transport
    ) -> None:
        transport.send_report(b'{"filler": "' + b"x" * 5_000 + b'"}')

        seen = server.requests("/reports", "POST")[0]
        assert seen.headers["content-encoding"] == "gzip"
        assert len(seen.json["filler"]) == 5_000

    def test_a_small_report_travels_as_it_is(
        self, server: PolicyServer, transport: Transport
    ) -> None:
        transport.send_report(b"{}")

        assert server.requests("/reports", "POST")[0].body == b"{}"


class TestSecrecy:
    def test_the_token_is_in_no_repr_error_or_log(
        self,
        server: PolicyServer,
        transport: Transport,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        transport.fetch_policy()
        server.kill()

        with pytest.raises(TransportFailed) as failure:
            transport.fetch_policy()

        told = f"{transport!r} {failure.value!r} {failure.value.__cause__!r} {caplog.text}"
        assert TOKEN not in told
        assert TOKEN not in repr(settings(server.url))
