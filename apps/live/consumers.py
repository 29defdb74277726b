"""The wall's socket."""

import asyncio
import contextlib
import re
from urllib.parse import parse_qs

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from apps.live import frames, selectors
from apps.live.selectors import Grant

log = structlog.get_logger(__name__)

SHOWN = re.compile(r"[1-9][0-9]{0,14}", re.ASCII)  # the number of a frame, as JSON writes it
UNASKED = 1008  # close code: said something else
NO_LEAVE = 4403  # close code: this session or token may not look any more; do not come back


class Wall(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels ships no types
    """Send the frames of one environment's wall, already serialised, to one viewer.

    A whole frame on connect, then what changes, as fast as the viewer shows it: for each frame it
    answers with the number of that frame, and nothing else may be said to this socket.
    """

    feed: frames.Feed | None = None

    async def connect(self) -> None:
        query = parse_qs(self.scope["query_string"].decode("ascii", "replace"))
        grant = await self._grant(query.get("environment", [None])[0])
        if grant is None:  # nobody we know, or not for this environment: refuse the handshake
            await self.close()
            return
        await self.accept()
        self.feed = frames.of(grant.environment_id)
        self.viewer = frames.Viewer(grant)
        self.feed.join(self.viewer)
        self.sending = asyncio.create_task(self._send_frames())
        log.info("wall.opened", **self.viewer.grant.as_logged)

    async def disconnect(self, code: int) -> None:
        if self.feed is None:
            return
        self.sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.sending
        await self.feed.leave(self.viewer)
        log.info("wall.closed", code=code, **self.viewer.grant.as_logged)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        shown = SHOWN.fullmatch(text_data or "")
        if self.feed is None or shown is None or not self.viewer.has_shown(int(shown[0])):
            await self.close(UNASKED)

    async def _send_frames(self) -> None:
        while (text := await self.viewer.next()) is not None:
            await self.send(text_data=text)  # waits while the viewer's line is full
        await self.close(NO_LEAVE)

    @database_sync_to_async  # type: ignore[untyped-decorator]  # channels ships no types
    def _grant(self, slug: str | None) -> Grant | None:
        scope = self.scope
        return selectors.grant_of(scope["user"], scope["session"], scope.get("cookies", {}), slug)
