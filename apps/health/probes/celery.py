"""Whether a worker takes a task from its queue and runs it, and how long that takes.

The task is `holdfast.canary`, which any Celery application can register: `apps.health.canary`
says what it does. It is sent as Celery's own client would send it, with an expiry, so that nothing
is run late; what no worker took is taken back where the broker can do that.
"""

import asyncio
import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel
from celery import Celery
from django.utils.translation import gettext as _
from redis import asyncio as aioredis
from redis import exceptions

from apps.health import rules
from apps.health.canary import REPLIES, TASK
from apps.health.probes import rabbitmq, redis
from apps.health.probes.network import Stopwatch, resolve
from apps.health.probes.outcomes import Outcome, Refused, fine
from apps.health.targets import Target, option, parse

GIVE_UP_BEFORE = 0.3  # seconds before the deadline, to take the task back and tell why
_maker = Celery("holdfast.checks", broker="memory://", set_as_current=False)


class _Canary:
    """One task on its way: what is sent, and to whom the worker replies."""

    def __init__(self, target: Target) -> None:
        self.id = str(uuid.uuid4())
        self.reply_to = f"{REPLIES}{target.check_id or self.id}"
        self.queue: str = option(target, "queue")
        self.wait = max(target.timeout / 2, target.timeout - GIVE_UP_BEFORE)
        self.made = _maker.amqp.as_task_v2(
            self.id, option(target, "task") or TASK, (self.reply_to,), {}, expires=target.timeout
        )

    @property
    def body(self) -> bytes:
        return json.dumps(self.made.body).encode()

    def is_answered_by(self, body: bytes) -> bool:
        """Replies to earlier ones, too late for them, are none to this."""
        try:
            return bool(json.loads(body) == {"canary": self.id})
        except ValueError:
            return False


async def probe(target: Target) -> Outcome:
    """Reach the broker first, then send the canary and wait for its reply."""
    through = _through_redis if target.address.startswith("redis") else _through_rabbitmq
    found = await through(target, _Canary(target))
    return rabbitmq.by_queue(found, most=option(target, "most_waiting")) if found.latency else found


def _busy(canary: _Canary, length: int) -> Outcome:
    """Slow is not down: others' tasks, `length` at first, were taken while the canary waited."""
    words = {"length": length, "queue": canary.queue, "wait": canary.wait}
    text = _("workers are busy: behind %(length)d in %(queue)s, no turn within %(wait).1f s")
    return Outcome(rules.IMPAIRED, text % words, None, {"queue_length": length})


def _nobody(canary: _Canary, length: int, consumers: int | None = None) -> Refused:
    facts = _("%(length)d waiting in %(queue)s") % {"length": length, "queue": canary.queue}
    if consumers == 0:
        return Refused(_("the broker answers, but no worker listens: %s") % facts)
    return Refused(_("the broker answers, but no worker ran the canary in time: %s") % facts)


async def _through_redis(target: Target, canary: _Canary) -> Outcome:
    address, watch = parse(target.kind, target.address), Stopwatch()
    place = await resolve(address.host, address.port)
    client = redis.connect(
        place,
        address.port,
        db=int(address.name or 0),
        username=address.user or None,
        password=target.secret or None,
        timeout=target.timeout,
        name=address.host if address.is_encrypted else "",
    )
    try:
        await client.ping()
        watch.lap("connect")
        return await _ask_redis(client, canary, watch)
    except exceptions.RedisError as error:
        raise Refused(redis.named_redis(error)) from error
    finally:
        await client.aclose(close_connection_pool=True)


async def _ask_redis(client: "aioredis.Redis", canary: _Canary, watch: Stopwatch) -> Outcome:
    envelope = json.dumps(_envelope(canary))
    length = await client.llen(canary.queue)
    await client.lpush(canary.queue, envelope)
    deadline = asyncio.get_running_loop().time() + canary.wait - watch.seconds
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        reply = await client.brpop([canary.reply_to], timeout=max(0.01, left))
        if reply is not None and canary.is_answered_by(_reply_of(reply[1])):
            watch.lap("round_trip")
            return fine(watch.seconds, phases=watch.phases, queue_length=length)
    ahead = await _ahead(client, canary.queue, envelope)
    await client.lrem(canary.queue, -1, envelope)
    if ahead < length:
        return _busy(canary, length)
    raise _nobody(canary, length)


async def _ahead(client: "aioredis.Redis", queue: str, envelope: str) -> int:
    """How many are taken before it; those that came later are on its other side."""
    async with client.pipeline(transaction=True) as both:
        both.llen(queue)
        both.lpos(queue, envelope)
        length, later = await both.execute()
    return 0 if later is None else int(length - later - 1)


def _envelope(canary: _Canary) -> dict[str, Any]:
    """As kombu's transport for Redis wraps a message."""
    return {
        "body": base64.b64encode(canary.body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": canary.made.headers,
        "properties": {
            **canary.made.properties,
            "delivery_mode": 1,
            "delivery_info": {"exchange": "", "routing_key": canary.queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def _reply_of(packed: bytes | str) -> bytes:
    try:
        envelope = json.loads(packed)
        return base64.b64decode(envelope["body"])
    except (ValueError, KeyError, TypeError):
        return b""


async def _through_rabbitmq(target: Target, canary: _Canary) -> Outcome:
    watch = Stopwatch()
    async with rabbitmq.connected(target) as connection:
        watch.lap("connect")
        channel = await connection.channel()
        facts = await rabbitmq.queue_facts(channel, canary.queue)
        replies = await channel.declare_queue(
            f"{canary.reply_to}.{canary.id}", exclusive=True, auto_delete=True
        )
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def receive(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            if canary.is_answered_by(message.body) and not came.done():
                came.set_result(None)

        await replies.consume(receive, no_ack=True)
        async with rabbitmq.unblocked(connection, within=target.timeout - watch.seconds):
            await channel.default_exchange.publish(
                _message(canary, replies.name), routing_key=canary.queue
            )
        try:
            async with asyncio.timeout(max(0.05, canary.wait - watch.seconds)):
                await came
        except TimeoutError as error:
            if await _has_moved(channel, canary.queue, facts):
                return _busy(canary, facts["queue_length"])
            raise _nobody(canary, facts["queue_length"], facts["consumers"]) from error
        watch.lap("round_trip")
        return fine(watch.seconds, phases=watch.phases, **facts)


async def _has_moved(channel: AbstractChannel, queue: str, before: Mapping[str, Any]) -> bool:
    """Whether consumers took something of a queue that has since got one more."""
    now = await rabbitmq.queue_facts(channel, queue)
    return bool(now["consumers"]) and 0 < before["queue_length"] >= now["queue_length"]


def _message(canary: _Canary, reply_to: str) -> aio_pika.Message:
    body = json.loads(canary.body)
    body[0] = [reply_to]
    return aio_pika.Message(
        json.dumps(body).encode(),
        headers=canary.made.headers,
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=canary.id,
        expiration=canary.wait,  # the broker drops it after that
    )
