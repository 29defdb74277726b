"""Whether PostgreSQL answers, and writes."""

from math import ceil
from typing import Any

import psycopg
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from psycopg import AsyncConnection, conninfo

from apps.health.probes.network import Stopwatch, resolve
from apps.health.probes.outcomes import Outcome, Refused, fine, named
from apps.health.targets import Target, option, parse

_LOOK = """
    SELECT pg_is_in_recovery(),
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
           current_setting('max_connections')::int,
           pg_database_size(current_database()),
           CASE WHEN pg_is_in_recovery()
                THEN extract(epoch FROM now() - pg_last_xact_replay_timestamp())::float END
"""
# A temporary table is gone with the transaction, but its entries in the catalogue are written like
# any other row: a standby, a read-only default and a full disk refuse it, and the commit waits for
# the log to be on disk.
_WRITE = "CREATE TEMPORARY TABLE holdfast_check ON COMMIT DROP AS SELECT 1 AS written"
_NAMED = {
    "28P01": gettext_lazy("the password is wrong"),
    "28000": gettext_lazy("this user is not let in"),
    "3D000": gettext_lazy("there is no such database"),
    "53300": gettext_lazy("too many connections"),
    "53100": gettext_lazy("its disk is full"),
    "57P03": gettext_lazy("it is starting or shutting down"),
    "42501": gettext_lazy("this user lacks TEMPORARY on the database, which the write probe needs"),
    "25006": gettext_lazy("it is read-only: it answers, and refuses writes"),
}
_LOCAL = {
    "password authentication failed": gettext_lazy("the password is wrong"),
    "no password supplied": gettext_lazy("it asks for a password"),
    "does not exist": gettext_lazy("there is no such database or user"),
    "starting up": gettext_lazy("it is starting or shutting down"),
    "shutting down": gettext_lazy("it is starting or shutting down"),
    "too many": gettext_lazy("too many connections"),
    "SSL": gettext_lazy("no encrypted connection as sslmode asks"),
}


async def probe(target: Target) -> Outcome:
    """Connect, look around and, unless told otherwise, write."""
    address, watch = parse(target.kind, target.address), Stopwatch()
    place = await resolve(address.host, address.port)
    watch.lap("resolve")
    return await ask(
        watch,
        write=option(target, "write_probe"),
        host=address.host,
        hostaddr=place,
        port=address.port,
        user=address.user or None,
        password=target.secret or None,
        dbname=address.name or None,
        connect_timeout=max(2, ceil(target.timeout)),
        **address.query,
    )


async def ask(watch: Stopwatch, *, write: bool, **parameters: Any) -> Outcome:
    """The same with parameters of libpq."""
    given = {name: value for name, value in parameters.items() if value is not None}
    try:
        connection = await AsyncConnection.connect(conninfo.make_conninfo(**given), autocommit=True)
        watch.lap("connect")
        try:
            facts = await _look(connection, watch)
            if write:
                await _write(connection, watch, is_standby=facts["is_standby"])
        finally:
            await connection.close()
    except psycopg.Error as error:
        raise Refused(_named(error)) from error
    return fine(watch.seconds, phases=watch.phases, **facts)


async def _look(connection: AsyncConnection[Any], watch: Stopwatch) -> dict[str, Any]:
    cursor = await connection.execute(_LOOK)
    row = await cursor.fetchone()
    watch.lap("read")
    if row is None:
        raise Refused(_("it answered nothing"))
    names = ("is_standby", "connections", "max_connections", "size_bytes", "lag_seconds")
    return {name: value for name, value in zip(names, row, strict=True) if value is not None}


async def _write(connection: AsyncConnection[Any], watch: Stopwatch, *, is_standby: bool) -> None:
    if is_standby:
        raise Refused(_("it is a standby: it answers, and refuses writes"))
    await connection.execute(_WRITE)
    watch.lap("write")


def _named(error: psycopg.Error) -> str:
    if text := _NAMED.get(error.sqlstate or ""):
        return str(text)
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return _("no answer in time")
    if error.sqlstate:
        return _("refused, SQLSTATE %s") % error.sqlstate
    # What libpq says of a connection it did not get names host and user, and never the password.
    if "refused" in str(error):
        return named(ConnectionRefusedError())
    for sign, text in _LOCAL.items():
        if sign in str(error):
            return str(text)
    return _("no connection, or it broke")
