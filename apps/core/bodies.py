"""Bodies of requests, as ASGI hands them over."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from django.utils.translation import gettext as _

from apps.core import problems
from apps.core.errors import TooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class BoundedBodies:
    """An ASGI application in front of Django: bodies are at most `most` bytes and have a length.

    Django would write a body of any size to disk before a view could refuse it, and REST framework
    takes one that comes in chunks, so without a Content-Length, for empty.
    """

    def __init__(self, application: Application, *, most: int) -> None:
        self._application = application
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lengths = [value for name, value in scope["headers"] if name.lower() == b"content-length"]
        if lengths:
            size = int(lengths[0])  # the server has let nothing else through
        else:
            messages = await whole(receive, self._most)
            size = sum(len(message.get("body", b"")) for message in messages)
            length = (b"content-length", str(size).encode())
            scope = {**scope, "headers": [*scope["headers"], length]} if size else scope
            receive = again_from(messages, receive)
        if size > self._most:
            await self._refuse(send)
        else:
            await self._application(scope, receive, send)

    async def _refuse(self, send: Send) -> None:
        text = _("The body is over %(limit)d bytes.") % {"limit": self._most}
        body = msgspec.json.encode(problems.document(413, TooLarge.code, text))
        headers = [
            (b"content-type", problems.CONTENT_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),  # the rest of it is not waited for
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def whole(receive: Receive, most: int) -> list[Message]:
    """The request up to its end, or until it is over `most` bytes, or its client left."""
    received = [await receive()]
    size = len(received[0].get("body", b""))
    while received[-1].get("more_body", False) and size <= most:
        received.append(await receive())
        size += len(received[-1].get("body", b""))
    return received


def again_from(received: list[Message], receive: Receive) -> Receive:
    """A `receive` that begins with what was received already."""
    waiting = iter(received)

    async def again() -> Message:
        message = next(waiting, None)
        return await receive() if message is None else message

    return again
