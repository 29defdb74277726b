from collections.abc import Iterator

import pytest

from apps.telemetry import ingest
from apps.telemetry.ingest import Ingest


@pytest.fixture(autouse=True)
def own_ingest() -> Iterator[Ingest]:
    """A process that has accepted nothing yet."""
    before, ingest.current = ingest.current, Ingest()
    yield ingest.current
    ingest.current = before
