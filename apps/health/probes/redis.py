"""Whether Redis answers, and keeps what it is given."""

import secrets
from typing import Any

from django.utils.translation import gettext as _
from redis import asyncio as aioredis
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from apps.health.probes.network import Stopwatch, resolve
from apps.health.probes.outcomes import Outcome, Refused, fine, named
from apps.health.targets import Target, option, parse

KEY_SECONDS = 60  # the key of a check ends by itself


async def probe(target: Target) -> Outcome:
    """PING and, unless told otherwise, SET and GET of a key of our own."""
    address, watch = parse(target.kind, target.address), Stopwatch()
    place = await resolve(address.host, address.port)
    watch.lap("resolve")
    client = connect(
        place,
        address.port,
        db=int(address.name or 0),
        username=address.user or None,
        password=target.secret or None,
        timeout=target.timeout,
        name=address.host if address.is_encrypted else "",
    )
    key = f"holdfast:check:{target.check_id}" if option(target, "write_probe") else ""
    return await ask(client, watch, key=key)


def connect(
    place: str, port: int, *, timeout: float, name: str = "", **options: Any
) -> "aioredis.Redis":
    """A client of one connection that tries once. With `name` encrypted, for that certificate."""
    if name:
        options |= {"ssl": True, "ssl_cert_reqs": "required"}
    return aioredis.Redis(
        host=name or place,
        port=port,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
        **options,
    )


async def ask(client: "aioredis.Redis", watch: Stopwatch, *, key: str) -> Outcome:
    """The same of a client, which is closed."""
    try:
        await client.ping()
        watch.lap("ping")
        if key:
            await _write(client, key)
            watch.lap("write")
        facts = _facts(await client.info())
    except exceptions.RedisError as error:
        raise Refused(named_redis(error)) from error
    finally:
        await client.aclose(close_connection_pool=True)
    return fine(watch.seconds, phases=watch.phases, **facts)


async def _write(client: "aioredis.Redis", key: str) -> None:
    value = secrets.token_hex(8)
    await client.set(key, value, ex=KEY_SECONDS)
    if await client.get(key) not in (value, value.encode()):
        raise Refused(_("it gave back another value than it was given"))


def _facts(info: dict[str, Any]) -> dict[str, Any]:
    names = ("role", "used_memory", "maxmemory", "connected_clients", "evicted_keys")
    return {name: info[name] for name in names if name in info}


def named_redis(error: exceptions.RedisError) -> str:
    """What went wrong, in our words."""
    texts: list[tuple[type[exceptions.RedisError], str]] = [
        (exceptions.AuthenticationError, _("the password is wrong, or it asks for one")),
        (exceptions.TimeoutError, _("no answer in time")),
        (exceptions.ReadOnlyError, _("it is read-only: it answers, and refuses writes")),
        (exceptions.OutOfMemoryError, _("its memory is full: it refuses writes")),
        (exceptions.BusyLoadingError, _("it is loading its data")),
        (exceptions.NoPermissionError, _("this user may not do that")),
    ]
    for kind, text in texts:
        if isinstance(error, kind):
            return text
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError):
        return named(cause)
    return (
        _("the connection broke")
        if isinstance(error, exceptions.ConnectionError)
        else _("it refused: %s") % str(error).split(" ", 1)[0]
    )
