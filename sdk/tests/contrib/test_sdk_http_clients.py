"""Guarded HTTP clients: real libraries against a real server; each test holds for all three."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import requests

from holdfast import CircuitOpen, RateLimited
from holdfast.contrib.httpx import AsyncGuardedTransport, GuardedTransport
from holdfast.contrib.requests import GuardedAdapter
from holdfast.testing import LocalHoldfast
from sdk.tests.contrib.bank import Bank, running

Reply = httpx.Response | requests.Response
TRUST = ssl.create_default_context()  # once: making one takes longer than a test
NO_JITTER = {"jitter": "none", "base_seconds": 1.0}


@pytest.fixture(scope="module")
def server() -> Iterator[Bank]:
    with running() as bank:
        yield bank


@pytest.fixture
def bank(server: Bank) -> Bank:
    server.answers.clear()
    server.seen.clear()
    return server


@pytest.fixture
def hf() -> LocalHoldfast:
    hf = LocalHoldfast()
    hf.set_policy("bank", retry=NO_JITTER)
    return hf


class Clients:
    """Asks by one library, through Holdfast."""

    def __init__(self, library: str) -> None:
        self.ask: Callable[..., Reply] = getattr(self, library)

    def httpx(self, hf: Any, url: str, method: str = "GET", **more: Any) -> Reply:
        inner = httpx.HTTPTransport(verify=TRUST)
        transport = GuardedTransport(hf, *_named(more), transport=inner, **_guarding(more))
        with httpx.Client(transport=transport) as client:
            return client.request(method, url, **more)

    def httpx_async(self, hf: Any, url: str, method: str = "GET", **more: Any) -> Reply:
        async def ask() -> Reply:
            inner = httpx.AsyncHTTPTransport(verify=TRUST)
            transport = AsyncGuardedTransport(hf, *_named(more), transport=inner, **_guarding(more))
            async with httpx.AsyncClient(transport=transport) as client:
                return await client.request(method, url, **more)

        return asyncio.run(ask())

    def requests(self, hf: Any, url: str, method: str = "GET", **more: Any) -> Reply:
        if "content" in more:
            more["data"] = more.pop("content")
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", GuardedAdapter(hf, *_named(more), **_guarding(more)))
            return session.request(method, url, **more)


def _named(more: dict[str, Any]) -> tuple[Any, ...]:
    return (more.pop("dependency", "bank"),)


def _guarding(more: dict[str, Any]) -> dict[str, Any]:
    return {name: more.pop(name) for name in ("fallback", "others") if name in more}


@pytest.fixture(params=["httpx", "httpx_async", "requests"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Reply]:
    return Clients(request.param).ask


def stats(hf: LocalHoldfast, name: str = "bank") -> dict[str, Any]:
    return hf.dependency(name).stats()


class TestRetryHeader:
    def test_only_a_retry_says_that_it_is_one(self, hf: Any, bank: Bank, ask: Any) -> None:
        before = len(bank.headers)
        bank.will_answer(503, 503)

        ask(hf, bank.url)

        marks = [headers.get("Holdfast-Retry") for headers in bank.headers[before:]]
        assert marks == [None, "1", "1"]

    def test_what_a_retried_call_asks_further_on_says_so_too(
        self, hf: Any, bank: Bank, ask: Any
    ) -> None:
        before = len(bank.headers)
        bank.will_answer(200, 200)
        failures = iter([OSError("once")])

        def outer() -> None:
            ask(hf, bank.url)
            for failure in failures:
                raise failure

        hf.call("outer", outer)

        marks = [headers.get("Holdfast-Retry") for headers in bank.headers[before:]]
        assert marks == [None, "1"]


class TestFailures:
    def test_a_good_answer_is_a_success(self, hf: Any, bank: Bank, ask: Any) -> None:
        assert ask(hf, bank.url).text == "answer 1"
        assert (stats(hf)["calls"], stats(hf)["successes"]) == (1, 1)

    @pytest.mark.parametrize("status", [500, 503, 429, 408])
    def test_failures_of_the_server_are_retried(
        self, hf: Any, bank: Bank, ask: Any, status: int
    ) -> None:
        bank.will_answer(status)

        assert ask(hf, bank.url).text == "answer 2"
        assert (stats(hf)["failures"], stats(hf)["successes"]) == (1, 1)

    @pytest.mark.parametrize("status", [400, 401, 404, 422])
    def test_errors_of_our_own_are_neither_retried_nor_the_dependencys(
        self, hf: Any, bank: Bank, ask: Any, status: int
    ) -> None:
        bank.will_answer(status)

        assert ask(hf, bank.url).status_code == status
        assert (stats(hf)["calls"], stats(hf)["failures"]) == (1, 0)

    def test_what_stays_wrong_reaches_the_caller_as_the_answer_it_is(
        self, hf: Any, bank: Bank, ask: Any
    ) -> None:
        bank.will_answer(503, 503, 500)

        answer = ask(hf, bank.url)

        assert (answer.status_code, answer.text, len(bank.seen)) == (500, "answer 3", 3)

    def test_retry_after_is_honoured(self, hf: Any, bank: Bank, ask: Any) -> None:
        bank.will_answer((503, {"Retry-After": "7"}))

        ask(hf, bank.url)

        assert hf.fake_clock.slept == [7.0]

    def test_nobody_listening_is_a_failure(self, hf: Any, ask: Any) -> None:
        with pytest.raises((httpx.ConnectError, requests.ConnectionError)):
            ask(hf, "http://127.0.0.1:1/")

        assert stats(hf)["failures"] == 3

    def test_time_up_is_a_timeout_and_the_client_keeps_it(
        self, hf: Any, bank: Bank, ask: Any
    ) -> None:
        hf.set_policy("bank", timeout={"attempt_seconds": 0.05}, retry={"enabled": False})
        bank.will_answer(0)

        with pytest.raises((httpx.TimeoutException, requests.Timeout, TimeoutError)):
            ask(hf, bank.url)

        assert stats(hf)["timeouts"] == 1

    def test_tests_can_force_one_without_a_server(self, hf: Any, bank: Bank, ask: Any) -> None:
        with hf.failing("bank"), pytest.raises(ConnectionError):
            ask(hf, bank.url)

        assert (stats(hf)["failures"], bank.seen) == (3, [])


class TestRejections:
    def test_an_open_breaker_sends_nothing(self, hf: Any, bank: Bank, ask: Any) -> None:
        hf.override("bank", "force_open")

        with pytest.raises(CircuitOpen):
            ask(hf, bank.url)

        assert bank.seen == []

    def test_failing_answers_open_it(self, hf: Any, bank: Bank, ask: Any) -> None:
        hf.set_policy("bank", breaker={"consecutive_failures": 2})
        bank.will_answer(500, 500)

        with pytest.raises(CircuitOpen):
            ask(hf, bank.url)

        assert hf.dependency("bank").breaker.state == "open"

    def test_beyond_the_rate_nothing_is_sent(self, hf: Any, bank: Bank, ask: Any) -> None:
        hf.set_policy("bank", rate_limit={"enabled": True, "calls": 1})
        ask(hf, bank.url)

        with pytest.raises(RateLimited):
            ask(hf, bank.url)

        assert len(bank.seen) == 1

    def test_read_only_mode_concerns_who_is_asked_not_who_asks(
        self, hf: Any, bank: Bank, ask: Any
    ) -> None:
        hf.engage("read-only", kind="read_only")

        assert ask(hf, bank.url, "POST").status_code == 200


class TestRepeating:
    def test_a_post_that_arrived_is_not_sent_twice(self, hf: Any, bank: Bank, ask: Any) -> None:
        bank.will_answer(500)

        assert ask(hf, bank.url, "POST", content=b"order").status_code == 500
        assert len(bank.seen) == 1

    def test_a_post_that_was_turned_away_is(self, hf: Any, bank: Bank, ask: Any) -> None:
        bank.will_answer(429)

        assert ask(hf, bank.url, "POST", content=b"order").status_code == 200
        assert bank.seen == [("POST", b"order")] * 2

    def test_one_with_an_idempotency_key_is(self, hf: Any, bank: Bank, ask: Any) -> None:
        bank.will_answer(500)

        ask(hf, bank.url, "POST", content=b"order", headers={"Idempotency-Key": "1"})

        assert bank.seen == [("POST", b"order")] * 2

    def test_a_put_is_sent_again_whole(self, hf: Any, bank: Bank, ask: Any) -> None:
        bank.will_answer(503)

        ask(hf, bank.url, "PUT", content=b"state")

        assert bank.seen == [("PUT", b"state")] * 2

    def test_the_policy_may_forbid_what_http_allows(self, hf: Any, bank: Bank, ask: Any) -> None:
        hf.set_policy("bank", retry={**NO_JITTER, "idempotent": False})
        bank.will_answer(503)

        assert ask(hf, bank.url).status_code == 503

    @pytest.mark.parametrize("library", ["httpx", "requests"])
    def test_a_body_that_is_gone_is_not_sent_again(self, hf: Any, bank: Bank, library: str) -> None:
        bank.will_answer(429)
        body = iter([b"or", b"der"])

        answer = Clients(library).ask(
            hf, bank.url, "PUT", content=body, headers={"Content-Length": "5"}
        )

        assert (answer.status_code, len(bank.seen)) == (429, 1)


class TestFallbacks:
    def test_a_value_becomes_an_answer_that_says_so(self, hf: Any, bank: Bank, ask: Any) -> None:
        hf.set_policy("bank", fallback={"chain": [{"kind": "value", "value": {"price": 41}}]})
        bank.will_answer(503, 503, 503)

        answer = ask(hf, bank.url)

        assert (answer.status_code, answer.json()) == (200, {"price": 41})
        assert answer.headers["Holdfast-Fallback"] == "value"

    def test_a_fallback_flag_answers_without_asking(self, hf: Any, bank: Bank, ask: Any) -> None:
        hf.set_policy("bank", fallback={"chain": [{"kind": "value", "value": "simple"}]})
        hf.engage("simple-replies", kind="fallback", dependencies=["bank"])

        assert ask(hf, bank.url).json() == "simple"
        assert bank.seen == []

    def test_a_function_answers_with_an_answer(self, hf: Any, bank: Bank) -> None:
        bank.will_answer(503, 503, 503)

        answer = Clients("httpx").ask(
            hf, bank.url, fallback=lambda request: httpx.Response(203, text="kept")
        )

        assert (answer.status_code, answer.text) == (203, "kept")

    def test_one_of_requests_too(self, hf: Any, bank: Bank) -> None:
        hf.override("bank", "force_open")
        kept = requests.Response()
        kept.status_code = 203

        assert Clients("requests").ask(hf, bank.url, fallback=lambda request: kept) is kept


class TestNames:
    def test_without_one_each_host_is_a_dependency(self, hf: Any, bank: Bank, ask: Any) -> None:
        ask(hf, bank.url, dependency=None)

        assert stats(hf, "127.0.0.1")["calls"] == 1

    def test_hosts_a_map_does_not_name_are_not_guarded(self, hf: Any, bank: Bank, ask: Any) -> None:
        hf.override("bank", "force_open")

        answer = ask(hf, bank.url, dependency={"api.bank.example": "bank"})

        assert (answer.status_code, hf.stats()["dependencies"].get("127.0.0.1")) == (200, None)

    def test_unless_they_are_to_be_guarded_by_their_own_name(
        self, hf: Any, bank: Bank, ask: Any
    ) -> None:
        named = {"api.bank.example": "bank"}

        ask(hf, bank.url, dependency=named, others="by_host")

        assert stats(hf, "127.0.0.1")["calls"] == 1

    def test_a_word_that_says_neither_is_a_mistake(self, hf: Any, bank: Bank, ask: Any) -> None:
        with pytest.raises(ValueError, match="unguarded or by_host"):
            ask(hf, bank.url, dependency={}, others="open")

    def test_hosts_it_names_are(self, hf: Any, bank: Bank, ask: Any) -> None:
        ask(hf, bank.url, dependency={"127.0.0.1": "bank"})

        assert stats(hf)["calls"] == 1


def test_without_a_transport_it_makes_its_own(hf: Any, bank: Bank) -> None:
    with httpx.Client(transport=GuardedTransport(hf, "bank")) as client:
        assert client.get(bank.url).status_code == 200


async def test_without_a_transport_the_async_one_makes_its_own(hf: Any, bank: Bank) -> None:
    async with httpx.AsyncClient(transport=AsyncGuardedTransport(hf, "bank")) as asking:
        assert (await asking.get(bank.url)).status_code == 200


def test_a_pool_of_one_connection_is_not_used_up_by_failures(hf: Any, bank: Bank) -> None:
    inner = httpx.HTTPTransport(limits=httpx.Limits(max_connections=1))
    bank.will_answer(503, 503, 200, 503, 503, 200)
    transport = GuardedTransport(hf, "bank", transport=inner)

    with httpx.Client(transport=transport, timeout=httpx.Timeout(5, pool=0.5)) as client:
        assert [client.get(bank.url).status_code for _ in range(2)] == [200, 200]


class Body(httpx.AsyncByteStream):
    """A body that says which answer it is of, and whether somebody closed it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield f"copy {self.number}".encode()

    async def aclose(self) -> None:
        self.is_closed = True


class Copies(httpx.AsyncBaseTransport):
    """Answers each request with the status a test puts into its place."""

    def __init__(self) -> None:
        self.sent: list[asyncio.Future[int]] = []
        self.bodies: list[Body] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(asyncio.get_running_loop().create_future())
        body = Body(len(self.sent))
        status = await self.sent[-1]
        self.bodies.append(body)
        return httpx.Response(status, stream=body)

    async def number(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.sent) < count:  # noqa: ASYNC110 - it counts what others begin
                await asyncio.sleep(0.001)


class TestHedging:
    """Whoever answers second holds a connection, which must go back."""

    @pytest.mark.parametrize(
        ("statuses", "text"),
        [
            ({1: 200}, "copy 2"),
            ({0: 200}, "copy 1"),
            ({0: 200, 1: 200}, "copy 1"),
            ({1: 200, 0: 200}, "copy 1"),
            ({1: 503, 0: 200}, "copy 1"),
            ({0: 503, 1: 200}, "copy 2"),
            ({0: 503, 1: 503}, "copy 2"),
            ({1: 503, 0: 503}, "copy 1"),
            ({1: 503, 0: 404}, "copy 1"),
        ],
    )
    async def test_every_answer_but_the_callers_is_closed(
        self, hf: Any, statuses: dict[int, int], text: str
    ) -> None:
        hedge = {"enabled": True, "after_seconds": 0.001}
        hf.set_policy("bank", hedge=hedge, retry={"enabled": False})
        copies = Copies()
        transport = AsyncGuardedTransport(hf, "bank", transport=copies)

        async with httpx.AsyncClient(transport=transport) as client:
            asking = asyncio.create_task(client.get("http://bank.example/"))
            await copies.number(2)
            for number, status in statuses.items():
                copies.sent[number].set_result(status)
                if status != 200:
                    await asyncio.sleep(0.002)
            answer = await asking

        assert answer.text == text
        assert all(body.is_closed for body in copies.bodies)
        assert len(copies.sent) == 2
