"""PostgreSQL that has fallen silent: paused, hung, or behind a network that lost it."""

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg_pool import ConnectionPool

ANSWER_SECONDS = 5.0  # for one statement; a server that lives ends it earlier by itself
LOOK_SECONDS = 0.1
# What libpq and the server are told, in their own units. A peer that is gone without a word is
# noticed by the kernel, a statement that takes too long (or waits for a lock) ended by the server.
LIMITS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
STATEMENT_LIMIT = " -c statement_timeout=4500"  # milliseconds; of web processes only
# Whoever opens a cursor here reads it to the end. The server expects a tenth to be read and prefers
# plans whose first row is soon there: of ten million windows the whole took eight times as long.
READ_TO_THE_END = "-c cursor_tuple_fraction=1"

R = TypeVar("R")


class ImpatientConnection(psycopg.Connection[Any]):
    """A connection that closes itself when the server does not answer in time.

    Without it a request waits for a paused server for as long as the pause lasts.
    """

    def wait(
        self, gen: PQGen[R], interval: float = LOOK_SECONDS, timeout: float | None = ANSWER_SECONDS
    ) -> R:
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.close()  # the answer that may still come must not be taken for the next one
            raise


def keep_trying(pool: "ConnectionPool[Any]") -> None:
    """Have the pool go on looking for a server that it has given up finding.

    By itself it would look again when somebody asks for a connection. But callers who waited in
    vain still count as waiting, and once they are as many as may wait, every new one is refused
    before it is looked for anything: such a pool never recovers.
    """
    pool.check()
