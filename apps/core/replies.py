"""Answers that are there as a whole, for what stands in front of Django."""

from functools import cached_property

from apps.core.bodies import Send


class Headers(dict[str, str]):
    """Headers of an answer; for reading only once it was sent."""

    @cached_property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """As ASGI wants them; made once for all who get the same."""
        return [(name.lower().encode(), value.encode("latin-1")) for name, value in self.items()]

    @cached_property
    def lines(self) -> bytes:
        """As they travel, each with its line's end; made once for all who get the same."""
        return b"".join(b"%s: %s\r\n" % pair for pair in self.raw)


Reply = tuple[int, Headers, bytes]
"""Status, headers and body."""


async def send_reply(send: Send, reply: Reply) -> None:
    """Send an answer over ASGI."""
    status, headers, body = reply
    await send({"type": "http.response.start", "status": status, "headers": headers.raw})
    await send({"type": "http.response.body", "body": body})
