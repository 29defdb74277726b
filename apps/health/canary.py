"""What the canary task does: it tells the check that sent it that a worker ran it.

Another Celery application answers checks of its workers by registering a task of this name that
sends `{"canary": <its own id>}` to the queue it is given, through the broker it came from.
"""

from typing import Any

TASK = "holdfast.canary"
REPLIES = "holdfast.canary."  # queues of replies begin so; no task replies to any other


def reply(connection: Any, *, task_id: str, reply_to: str) -> None:
    """Publish the reply on a kombu connection; nothing for a queue that no check listens to."""
    if reply_to.startswith(REPLIES):
        producer = connection.Producer(serializer="json")
        producer.publish({"canary": task_id}, routing_key=reply_to, exchange="", retry=False)
