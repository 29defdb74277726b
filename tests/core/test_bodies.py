"""Bodies in front of Django: a limit for all of them, and a length for those that have none."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apps.core.bodies import BoundedBodies, Message, Receive, Scope, Send

MOST = 10


class Django:
    """What comes through: headers and messages, until the request ends."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] | None = None
        self.messages: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = dict(scope["headers"])
        self.messages.append(await receive())
        while self.messages[-1].get("more_body", False):
            self.messages.append(await receive())

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def send_through(
    *chunks: bytes, length: int | None = None, leaves: bool = False
) -> tuple[Django, list[Message]]:
    """A request in these chunks; a client that leaves does so before the last is complete."""
    django, sent = Django(), []

    async def messages() -> AsyncIterator[Message]:
        for number, chunk in enumerate(chunks, start=1):
            more = number < len(chunks) or leaves
            yield {"type": "http.request", "body": chunk, "more_body": more}
        while True:
            yield {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope: dict[str, Any] = {"type": "http", "headers": headers}
    await BoundedBodies(django, most=MOST)(scope, messages().__anext__, send)
    return django, sent


async def test_a_body_in_chunks_gets_its_length() -> None:
    django, _sent = await send_through(b'{"a"', b": 1}")

    assert django.headers == {b"content-length": b"8"}
    assert django.body == b'{"a": 1}'


async def test_a_request_without_a_body_stays_one() -> None:
    django, _sent = await send_through(b"")

    assert django.headers == {}
    assert django.body == b""


async def test_a_body_with_a_length_passes_untouched() -> None:
    django, _sent = await send_through(b"12345", b"67890", length=10)

    assert [message["body"] for message in django.messages] == [b"12345", b"67890"]


@pytest.mark.parametrize(
    ("chunks", "length"),
    [([b""], 11), ([b""], 10**14), ([b"123456", b"78901"], None), ([b"1" * 6] * 99, None)],
    ids=["as announced", "a hundred terabytes", "as it turns out", "endless"],
)
async def test_over_the_limit_is_413_and_nothing_comes_through(
    chunks: list[bytes], length: int | None
) -> None:
    django, sent = await send_through(*chunks, length=length)

    assert django.headers is None
    assert sent[0]["status"] == 413
    assert (b"content-type", b"application/problem+json") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["code"] == "too_large"


async def test_half_a_body_is_not_taken_for_a_whole_one() -> None:
    django, _sent = await send_through(b'{"a"', b": 1}", leaves=True)

    assert django.messages[-1]["type"] == "http.disconnect"
