"""A client of no server, with its read-only flag in the test's hand."""

from typing import Any

from holdfast import Holdfast
from holdfast._document import Received, parse
from sdk.tests.client.world import SERVER_TIME, FakeClock, document, flag


class Switch:
    """Switches read-only mode by handing documents to the engine, as the feed would."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.client = Holdfast("", "", service="", clock=self.clock)
        self._revision = 0

    def engage(self, *, seconds: float | None = None) -> None:
        """Switch writing off, for some seconds or until further notice."""
        expires_at = None if seconds is None else SERVER_TIME + seconds
        self._apply({"read-only": flag(expires_at=expires_at)})

    def end(self) -> None:
        """Switch writing on again."""
        self._apply({})

    @property
    def requests(self) -> dict[str, Any]:
        """What the next report would say of requests."""
        return self.client._session.requests.collect() or {"count": 0}

    def _apply(self, flags: dict[str, Any]) -> None:
        self._revision += 1
        received = Received(monotonic=self.clock.monotonic(), server_time=SERVER_TIME)
        self.client._engine.apply(parse(document(self._revision, flags=flags)), received)
