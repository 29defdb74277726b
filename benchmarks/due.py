"""When each check is due, on the database of the environment: a line every few seconds, till its
input ends, and then the latencies that the checks measured.

Started by `benchmarks.checks`, as `NUMBER PORT...`: it adds so many checks first, over HTTP of the
first port and TCP of the others, and says when they are there.
"""

import json
import select
import sys
from datetime import timedelta

import django

django.setup()

from apps.core import clock  # noqa: E402 – Django is set up first
from apps.fleet.models import Environment  # noqa: E402
from apps.health.models import Check  # noqa: E402

INTERVAL_SECONDS = 30.0
LOOK_SECONDS = 3.0


def fill(number: int, http: int, tcp: list[int]) -> None:
    """Checks that are due one after the other, as they come to be by their jitter."""
    place = Environment.objects.create(slug="bench", name="bench")
    now = clock.now()
    for each in range(number):
        is_http = each < number - len(tcp)
        port = http if is_http else tcp[each - number]
        Check.objects.create(
            environment=place,
            name=f"check-{each}",
            kind="http" if is_http else "tcp",
            address=f"http://127.0.0.1:{http}/{each}" if is_http else f"tcp://127.0.0.1:{port}",
            interval_seconds=INTERVAL_SECONDS,
            next_at=now + timedelta(seconds=10 + INTERVAL_SECONDS * each / number),
        )


def due() -> dict[str, float]:
    """When each check that is not under way is due, by its name."""
    rows = Check.objects.filter(claim=None).values_list("name", "next_at")
    return {name: at.timestamp() for name, at in rows if at is not None}


def main(number: int, http: int, *tcp: int) -> None:
    fill(number, http, list(tcp))
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        print(json.dumps(due()), flush=True)
    rows = Check.objects.exclude(latency_seconds=None).values_list("kind", "latency_seconds")
    print(json.dumps(list(rows)), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
