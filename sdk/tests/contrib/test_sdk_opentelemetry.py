"""Spans of guarded calls, made by OpenTelemetry's own SDK."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from holdfast import CircuitOpen
from holdfast._events import Event
from holdfast.contrib import opentelemetry
from holdfast.contrib.httpx import AsyncGuardedTransport, GuardedTransport
from holdfast.contrib.opentelemetry import TracedHoldfast
from holdfast.contrib.requests import GuardedAdapter
from holdfast.testing import LocalHoldfast
from sdk.tests.contrib.bank import Bank, running


class TracedLocal(TracedHoldfast, LocalHoldfast):
    """As users' tests would make one."""


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def hf(provider: TracerProvider) -> TracedLocal:
    hf = TracedLocal(tracer_provider=provider)
    hf.set_policy("bank", retry={"jitter": "none", "base_seconds": 1.0})
    return hf


@pytest.fixture
def span(exporter: InMemorySpanExporter) -> Callable[[], ReadableSpan]:
    def only() -> ReadableSpan:
        (span,) = exporter.get_finished_spans()
        return span

    return only


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def fail(order: str = "") -> int:
    raise ConnectionError(f"bank is down {order}")


async def fail_async() -> int:
    raise ConnectionError("bank is down")


class TestOutcomes:
    def test_a_success_is_a_span_named_after_its_dependency(self, hf: Any, span: Any) -> None:
        assert hf.call("bank", lambda: 41) == 41

        assert span().name == "bank"
        assert said(span()) == {
            "holdfast.dependency": "bank",
            "holdfast.attempts": 1,
            "holdfast.outcome": "success",
        }
        assert span().status.status_code is StatusCode.UNSET

    def test_a_failure_says_what_was_raised(self, hf: Any, span: Any) -> None:
        with pytest.raises(ConnectionError):
            hf.call("bank", fail)

        assert said(span())["holdfast.outcome"] == "failure"
        assert said(span())["holdfast.attempts"] == 3
        assert said(span())["error.type"] == "ConnectionError"
        assert span().status.status_code is StatusCode.ERROR
        assert "exception" in [event.name for event in span().events]

    def test_a_rejection_says_why(self, hf: Any, span: Any) -> None:
        hf.override("bank", "force_open")

        with pytest.raises(CircuitOpen):
            hf.call("bank", fail)

        assert said(span())["holdfast.outcome"] == "rejected"
        assert said(span())["holdfast.rejected"] == "open"
        assert span().status.status_code is StatusCode.ERROR

    def test_a_fallback_says_which(self, hf: Any, span: Any) -> None:
        hf.set_policy("bank", fallback={"chain": [{"kind": "value", "value": 7}]})

        assert hf.call("bank", fail) == 7

        assert said(span())["holdfast.outcome"] == "fallback"
        assert said(span())["holdfast.fallback"] == "value"
        assert span().status.status_code is StatusCode.UNSET

    async def test_a_cancelled_call_is_no_error(self, hf: Any, span: Any) -> None:
        task = asyncio.ensure_future(hf.acall("bank", asyncio.sleep, 3600))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert said(span())["holdfast.outcome"] == "interrupted"
        assert span().status.status_code is StatusCode.UNSET


class TestEvents:
    def test_retries_are_events_with_class_and_delay(self, hf: Any, span: Any) -> None:
        hf.try_call("bank", fail)

        retries = [event for event in span().events if event.name == "retry.attempted"]
        assert [dict(event.attributes) for event in retries] == [
            {"dependency": "bank", "attempt": 2, "delay": 1.0, "class": "transient"},
            {"dependency": "bank", "attempt": 3, "delay": 2.0, "class": "transient"},
        ]

    def test_the_call_that_opens_the_breaker_says_so(self, hf: Any, span: Any) -> None:
        hf.set_policy("bank", breaker={"consecutive_failures": 3})

        hf.try_call("bank", fail)

        (changed,) = [each for each in span().events if each.name == "breaker.state_changed"]
        assert (changed.attributes["from"], changed.attributes["to"]) == ("closed", "open")

    def test_what_happened_in_another_thread_is_on_no_span_of_this_one(
        self, provider: TracerProvider, span: Any
    ) -> None:
        event = Event(at=0.0, type="retry.attempted", dependency="bank")
        with provider.get_tracer("test").start_as_current_span("other"):
            opentelemetry._tell(dataclasses.replace(event, thread=event.thread + 1))

        assert span().events == ()


class TestGuards:
    def test_functions(self, hf: TracedLocal, span: Any) -> None:
        @hf.guard("bank")
        def pay(order: str, *, cents: int) -> str:
            return f"{order} {cents}"

        assert pay("order 1", cents=5) == "order 1 5"
        assert (said(span())["holdfast.outcome"], pay.__name__) == ("success", "pay")

    async def test_coroutine_functions(self, hf: Any, span: Any) -> None:
        pay = hf.guard("bank")(fail_async)

        with pytest.raises(ConnectionError):
            await pay()

        assert inspect.iscoroutinefunction(pay)
        assert said(span())["holdfast.attempts"] == 3

    def test_methods_of_every_kind(self, hf: TracedLocal, exporter: InMemorySpanExporter) -> None:
        class Till:
            @hf.guard("bank")
            def of_self(self) -> str:
                return type(self).__name__

            @hf.guard("bank")
            @classmethod
            def of_class(cls) -> str:
                return cls.__name__

            @hf.guard("bank")
            @staticmethod
            def of_nobody() -> str:
                return "nobody"

        assert (Till().of_self(), Till.of_class(), Till.of_nobody()) == ("Till", "Till", "nobody")
        assert len(exporter.get_finished_spans()) == 3

    def test_what_the_author_said_holds(self, hf: Any, span: Any) -> None:
        guard = hf.guard(
            "bank",
            fallback=lambda order: f"{order} kept",
            errors={"permanent": KeyError},
            dead_letter="pay",
            idempotency_key=str.upper,
        )
        hf.set_policy("bank", dead_letter={"when": "always"})

        assert guard(fail)("order 1") == "order 1 kept"
        assert said(span())["holdfast.fallback"] == "function"
        assert [item["idempotency_key"] for item in hf.dead_letters] == ["ORDER 1"]

    def test_generators_are_refused_as_ever(self, hf: TracedLocal) -> None:
        with pytest.raises(TypeError, match="generator"):

            @hf.guard("bank")
            def each() -> Iterator[int]:
                yield 1

    def test_a_call_within_a_call_is_its_child(
        self, hf: Any, exporter: InMemorySpanExporter
    ) -> None:
        hf.call("orders", functools.partial(hf.call, "bank", lambda: 1))

        inner, outer = exporter.get_finished_spans()
        assert (inner.name, outer.name) == ("bank", "orders")
        assert inner.parent is not None
        assert inner.parent.span_id == outer.context.span_id


@pytest.fixture(scope="module")
def server() -> Iterator[Bank]:
    with running() as bank:
        yield bank


@pytest.fixture
def bank(server: Bank) -> Bank:
    server.answers.clear()
    server.headers.clear()
    return server


def ask_httpx(hf: LocalHoldfast, url: str, **more: Any) -> Any:
    with httpx.Client(transport=GuardedTransport(hf, {"127.0.0.1": "bank"}, **more)) as client:
        return client.get(url)


def ask_httpx_async(hf: LocalHoldfast, url: str, **more: Any) -> Any:
    async def ask() -> Any:
        transport = AsyncGuardedTransport(hf, {"127.0.0.1": "bank"}, **more)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get(url)

    return asyncio.run(ask())


def ask_requests(hf: LocalHoldfast, url: str) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", GuardedAdapter(hf, {"127.0.0.1": "bank"}))
        return session.get(url)


@pytest.fixture(params=[ask_httpx, ask_httpx_async, ask_requests])
def ask(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestRequests:
    def test_they_are_spans_and_carry_them_to_who_is_asked(
        self, hf: Any, bank: Bank, ask: Any, span: Any
    ) -> None:
        bank.will_answer(503)

        assert ask(hf, bank.url).status_code == 200

        assert said(span())["holdfast.attempts"] == 2
        for headers in bank.headers:
            lowered = {name.lower(): value for name, value in headers.items()}
            carried = trace.get_current_span(propagate.extract(lowered)).get_span_context()
            assert carried.span_id == span().context.span_id
            assert carried.trace_id == span().context.trace_id

    def test_an_answer_that_is_an_error_is_one_of_the_span(
        self, hf: Any, bank: Bank, ask: Any, span: Any
    ) -> None:
        bank.will_answer(404)

        assert ask(hf, bank.url).status_code == 404

        assert said(span())["holdfast.outcome"] == "failure"

    def test_hosts_that_are_not_guarded_are_left_alone(
        self, hf: Any, bank: Bank, ask: Any, exporter: InMemorySpanExporter
    ) -> None:
        ask(hf, bank.url.replace("127.0.0.1", "localhost"))

        assert exporter.get_finished_spans() == ()
        assert "traceparent" not in str(bank.headers).lower()

    def test_a_client_that_does_not_trace_sends_nothing(self, bank: Bank, ask: Any) -> None:
        ask(LocalHoldfast(), bank.url)

        assert "traceparent" not in str(bank.headers).lower()
