"""Reports on their way in, for tests that start behind the door."""

import json
from typing import Any

from apps.fleet.models import Service
from apps.telemetry import reports
from apps.telemetry.ingest import Ingest
from tests import make


def accept(ingest: Ingest, service: Service, body: dict[str, Any] | None = None) -> bool:
    """What the door does with a good report of `service`."""
    raw = json.dumps(body or make.report()).encode()
    read = reports.read(raw)
    return ingest.accept(service.environment_id, service.pk, read, len(raw)) is not None


def ingested(service: Service, *bodies: dict[str, Any]) -> Ingest:
    """A process that has accepted and written down these reports."""
    ingest = Ingest()
    for body in bodies:
        accept(ingest, service, body)
    ingest.flush()
    return ingest
