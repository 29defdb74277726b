"""Whether RabbitMQ takes a message and hands it out again."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aiormq import exceptions
from django.utils.translation import gettext as _

from apps.health import rules
from apps.health.probes.network import Stopwatch, resolve
from apps.health.probes.outcomes import Outcome, Refused, fine
from apps.health.targets import Target, option, parse

GOODBYE_SECONDS = 0.5  # a hung server is not waited for
ALARM_SECONDS = 0.8  # before the deadline, to tell of an alarm and say goodbye


async def probe(target: Target) -> Outcome:
    """Publish to a queue of our own, consume from it, and measure another queue if one is named."""
    watch = Stopwatch()
    async with connected(target) as connection:
        watch.lap("connect")
        channel = await connection.channel()
        async with unblocked(connection, within=target.timeout - watch.seconds):
            await round_trip(channel)
        watch.lap("round_trip")
        facts = await queue_facts(channel, option(target, "queue"))
        found = fine(watch.seconds, phases=watch.phases, **facts)
        return by_queue(found, most=option(target, "most_waiting"), fewest=_fewest(target))


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[AbstractConnection]:
    """A connection to the check's address, given up without waiting.

    Raises:
        Refused: there is none, or what was done with it failed.
    """
    address = parse(target.kind, target.address)
    place = await resolve(address.host, address.port)
    connection: AbstractConnection | None = None
    try:
        connection = await aio_pika.connect(
            host=address.host if address.is_encrypted else place,
            port=address.port,
            login=address.user or "guest",
            password=target.secret or "guest",
            virtualhost=address.name or "/",
            ssl=address.is_encrypted,
            timeout=target.timeout,
            heartbeat=10,
        )
        yield connection
    except (exceptions.AMQPError, aio_pika.exceptions.AMQPError, RuntimeError) as error:
        raise Refused(_named(error)) from error
    finally:
        if connection is not None:
            with suppress(TimeoutError, exceptions.AMQPError, OSError, RuntimeError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await connection.close()


def _fewest(target: Target) -> int:
    fewest: int = option(target, "fewest_consumers")
    return fewest


def by_queue(found: Outcome, *, most: int, fewest: int = 0) -> Outcome:
    """The same, impaired if more than `most` messages wait, or fewer than `fewest` consumers do."""
    length, consumers = found.facts.get("queue_length", 0), found.facts.get("consumers", fewest)
    said = []
    if most and length > most:
        words = {"length": length, "most": most}
        said.append(_("%(length)d messages wait, more than %(most)d") % words)
    if consumers < fewest:
        words = {"consumers": consumers, "fewest": fewest}
        said.append(_("%(consumers)d consumers, fewer than %(fewest)d") % words)
    return replace(found, mark=rules.IMPAIRED, detail=", ".join(said)) if said else found


@asynccontextmanager
async def unblocked(connection: AbstractConnection, *, within: float) -> AsyncIterator[None]:
    """Give what is published in it up in time to tell why it does not get through.

    Raises:
        Refused: the broker said that an alarm keeps it from taking messages.
        TimeoutError: it said nothing.
    """
    try:
        async with asyncio.timeout(max(within / 2, within - ALARM_SECONDS)):
            yield
    except TimeoutError as error:
        if await _is_blocked(connection):
            text = _("an alarm keeps it from taking messages: its memory or its disk is short")
            raise Refused(text) from error
        raise


async def _is_blocked(connection: AbstractConnection) -> bool:
    """Whether the broker told this connection, which has published, to wait."""
    if connection.transport is None:
        return False
    try:
        async with asyncio.timeout(0.01):
            await connection.transport.connection.ready()
    except TimeoutError:
        return True
    return False


async def round_trip(channel: AbstractChannel) -> None:
    """A message to ourselves, confirmed by the broker and brought back by it."""
    queue = await channel.declare_queue(exclusive=True, auto_delete=True)
    sent, came = secrets.token_bytes(8), asyncio.get_running_loop().create_future()

    async def receive(message: AbstractIncomingMessage) -> None:
        if not came.done():
            came.set_result(message.body)

    await queue.consume(receive, no_ack=True)
    await channel.default_exchange.publish(aio_pika.Message(sent), routing_key=queue.name)
    if await came != sent:
        raise Refused(_("it handed out another message than it was given"))


async def queue_facts(channel: AbstractChannel, name: str) -> dict[str, Any]:
    """Length and consumers of a queue; nothing without a name. Raises if there is no such queue."""
    if not name:
        return {}
    queue = await channel.declare_queue(name, passive=True)
    found = queue.declaration_result
    return {"queue_length": found.message_count, "consumers": found.consumer_count}


def _named(error: Exception) -> str:
    texts: list[tuple[type[Exception], str]] = [
        (exceptions.ProbableAuthenticationError, _("user or password is wrong")),
        (exceptions.AuthenticationError, _("user or password is wrong")),
        (exceptions.ChannelNotFoundEntity, _("there is no such queue")),
        (exceptions.ChannelAccessRefused, _("this user may not do that")),
        (exceptions.ConnectionNotAllowed, _("this user may not use the virtual host")),
    ]
    for kind, text in texts:
        if isinstance(error, kind):
            return text
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ConnectionRefusedError):
        return _("connection refused: nothing listens there")
    return _("no connection, or it broke")
