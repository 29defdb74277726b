"""What type checkers must say of the SDK. Nothing here runs: `test_typing.py` has it checked."""

from __future__ import annotations

import functools
from typing import Any, assert_type

import holdfast
from holdfast import Holdfast, Letter, Rejected
from holdfast.contrib.opentelemetry import TracedHoldfast
from holdfast.testing import LocalHoldfast

hf = Holdfast()


class OutOfStock(Exception): ...


def kept(symbol: str, *, places: int = 2) -> float:
    return round(41.0, places)


def as_body(symbol: str, *, places: int = 2) -> dict[str, object]:
    return {"symbol": symbol, "places": places}


def is_busy(error: Exception) -> bool:
    return "busy" in str(error)


# -- guarded functions keep their signatures -----------------------------------------------------


@hf.guard("quotes-api")
def quote(symbol: str, *, places: int = 2) -> float:
    return kept(symbol, places=places)


@hf.guard(
    "quotes-api",
    fallback=kept,
    errors={"permanent": OutOfStock, "transient": [ConnectionError, is_busy]},
    dead_letter="quote",
    serialize=as_body,
    idempotency_key=str.lower,
)
async def quote_async(symbol: str, *, places: int = 2) -> float:
    return kept(symbol, places=places)


assert_type(quote("ACME", places=3), float)
quote(41)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
quote("ACME", 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
quote("ACME", digits=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
quote()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def ask() -> None:
    assert_type(await quote_async("ACME", places=3), float)
    await quote_async(41)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    quote_async("ACME") + 1.0  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]


# -- methods of every kind -----------------------------------------------------------------------


class Quotes:
    @hf.guard("quotes-api")
    def of(self, symbol: str) -> float:
        return kept(symbol)

    @hf.guard("quotes-api")
    async def of_async(self, symbol: str) -> float:
        return kept(symbol)

    @classmethod
    @hf.guard("quotes-api")
    def made(cls, symbol: str) -> Quotes:
        return cls()

    @staticmethod
    @hf.guard("quotes-api")
    def parsed(symbol: str) -> list[str]:
        return [symbol]

    @property
    @hf.guard("quotes-api")
    def best(self) -> str:
        return "ACME"


async def ask_methods(quotes: Quotes) -> None:
    assert_type(quotes.of("ACME"), float)
    assert_type(await quotes.of_async("ACME"), float)
    assert_type(Quotes.made("ACME"), Quotes)
    assert_type(Quotes.parsed("ACME"), list[str])
    assert_type(quotes.best, str)
    quotes.of(41)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Quotes.parsed(41)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- calls without a decorator -------------------------------------------------------------------


def total(prices: list[float]) -> float:
    return sum(prices)


async def fetch(symbol: str) -> bytes:
    return symbol.encode()


async def call() -> None:
    assert_type(hf.call("quotes-api", kept, "ACME", places=1), float)
    assert_type(hf.call("quotes-api", lambda: 41), int)
    assert_type(hf.call("quotes-api", functools.partial(kept, "ACME")), float)
    assert_type(await hf.acall("quotes-api", fetch, "ACME"), bytes)
    hf.call("quotes-api", kept, 41)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hf.call("quotes-api", total, prices=["1"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await hf.acall("quotes-api", kept, "ACME")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def try_call() -> None:
    outcome = hf.try_call("quotes-api", kept, "ACME")
    assert_type(outcome.value, float | None)
    assert_type(outcome.unwrap(), float)
    assert_type(outcome.error, Exception | None)
    assert_type(outcome.rejection, Rejected | None)
    assert_type((await hf.try_acall("quotes-api", fetch, "ACME")).unwrap(), bytes)


# -- the rest of the surface ---------------------------------------------------------------------


@hf.redrives("charge")
def charge(letter: Letter) -> None:
    assert_type(letter.idempotency_key, str)


@hf.redrives("refund")
async def refund(letter: Letter) -> None: ...


def look() -> None:
    assert_type(hf.read_only, bool)
    assert_type(hf.flag("beta", key="user 7").enabled, bool)
    assert_type(hf.dependency("quotes-api").breaker.state, str)
    assert_type(hf.stats(), dict[str, Any])
    assert_type(holdfast.deadline.remaining(), float | None)
    assert_type(holdfast.deadline.remaining(10.0), float)
    hf.guard(41)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


local = LocalHoldfast()
local.set_policy("quotes-api", breaker={"consecutive_failures": 2})
with local.failing("quotes-api", OutOfStock(), times=1), local.rejecting("quotes-api"):
    assert_type(local.call("quotes-api", kept, "ACME"), float)
local.failing("quotes-api", "down")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@local.guard("quotes-api")
def local_quote(symbol: str) -> float:
    return kept(symbol)


assert_type(local_quote("ACME"), float)

traced = TracedHoldfast(service="checkout")


@traced.guard("quotes-api", fallback=kept)
async def traced_quote(symbol: str) -> float:
    return kept(symbol)


async def trace() -> None:
    assert_type(await traced_quote("ACME"), float)
    assert_type(traced.call("quotes-api", kept, "ACME"), float)
    traced.call("quotes-api", kept, 41)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await traced_quote(41)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
