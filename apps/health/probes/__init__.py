"""One coroutine per kind of check: it connects, asks, and says what came of it.

Each opens a connection of its own and closes it. None may block the event loop they share, and none
needs to watch its time: the prober does, and does not wait for one that will not end.
"""

from collections.abc import Awaitable, Callable, Mapping

from apps.health.probes import celery, heartbeat, host, http, postgresql, rabbitmq, redis, tcp
from apps.health.probes.outcomes import Outcome
from apps.health.targets import Target

Probe = Callable[[Target], Awaitable[Outcome]]

PROBES: Mapping[str, Probe] = {
    "http": http.probe,
    "tcp": tcp.probe,
    "postgresql": postgresql.probe,
    "redis": redis.probe,
    "rabbitmq": rabbitmq.probe,
    "celery": celery.probe,
    "host": host.probe,
    "heartbeat": heartbeat.probe,
}
