"""A process of many light viewers of the wall: `URL COOKIE VIEWERS`.

It prints "ready" when each has its first frame, and at the end of its input one line of JSON: how
many frames and bytes came since then, and for each viewer the revisions it had, each with the
instant. A viewer answers each frame as the page does, but draws nothing.
"""

import asyncio
import json
import re
import sys
import time

import websockets

SEQUENCE = re.compile(r'"sequence":(\d+)')
REVISION = re.compile(r'"revision":(\d+)')  # the first one is the frame's own


AT_ONCE = 10  # viewers that come in


class Viewer:
    """Notes when it had which revision."""

    def __init__(self) -> None:
        self.had: list[tuple[int, float]] = []
        self.frames = 0
        self.bytes = 0
        self.has_frame = asyncio.Event()

    async def look(self, url: str, cookie: str) -> None:
        origin = url.replace("ws:", "http:").partition("/ws/")[0]
        async with websockets.connect(
            url,
            origin=websockets.Origin(origin),
            additional_headers={"Cookie": cookie},
            max_size=None,
            open_timeout=60,
        ) as line:
            async for text in line:
                await line.send(self.heard(str(text)))

    def heard(self, text: str) -> str:
        now = time.time()
        if revision := REVISION.search(text):
            self.had.append((int(revision[1]), now))
        self.frames += 1
        self.bytes += len(text)
        self.has_frame.set()
        sequence = SEQUENCE.search(text)
        assert sequence is not None
        return sequence[1]


async def look(url: str, cookie: str, number: int) -> dict[str, object]:
    viewers = [Viewer() for _ in range(number)]
    lines = []
    for first in range(0, number, AT_ONCE):
        coming = viewers[first : first + AT_ONCE]
        lines += [asyncio.create_task(viewer.look(url, cookie)) for viewer in coming]
        for viewer in coming:
            await asyncio.wait_for(viewer.has_frame.wait(), 60)
    for viewer in viewers:
        viewer.frames = viewer.bytes = 0
        viewer.had.clear()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for line in lines:
        line.cancel()
    return {
        "frames": max(viewer.frames for viewer in viewers),
        "bytes": sum(viewer.bytes for viewer in viewers) / number,
        "had": [viewer.had for viewer in viewers],
    }


if __name__ == "__main__":
    url, cookie, number = sys.argv[1:]
    print(json.dumps(asyncio.run(look(url, cookie, int(number)))), flush=True)
