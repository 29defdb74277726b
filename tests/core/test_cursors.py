"""How PostgreSQL plans what is read through a server's cursor."""

import pytest
from django.db import connection, transaction

from apps.fleet.models import Service, Usage
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_cursor_is_planned_to_be_read_to_the_end() -> None:
    """Not for its first row: what joins and groups many rows takes far longer that way."""
    if connection.vendor != "postgresql":
        return  # SQLite has no cursors on a server
    place = make.environment()
    services = Service.objects.bulk_create(
        Service(environment=place, slug=f"service-{number}") for number in range(300)
    )
    dependency = make.dependency(place)
    Usage.objects.bulk_create(
        Usage(service=each, dependency=dependency, source=Usage.Source.DECLARED)
        for each in services
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE fleet_service, fleet_usage, fleet_dependency")
    rows = Usage.objects.filter(service__environment=place).order_by("service__slug")
    statement, values = rows.values("service__slug").query.sql_with_params()

    def plan(prefix: str) -> list[str]:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (COSTS OFF) {prefix} {statement}", values)
            return [line for (line,) in cursor.fetchall()]

    assert plan("DECLARE looked CURSOR FOR") == plan("")
