"""The pool of connections to Postgres, as one service's role."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from contracts.errors import CertwireError, ErrorCode
from shared.settings import Settings
from shared.telemetry import trace_queries

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

LOG: Final = logging.getLogger(__name__)

_LOST_IN_WORK: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the last words of the server came between two statements
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    ConnectionError,
    TimeoutError,
)
LOST: Final = (*_LOST_IN_WORK, OSError)
"""What asyncpg raises when the server is away, full, or going; any OSError while connecting."""
BUSY: Final = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
"""The server gave up on us in favour of another transaction: nothing took effect."""
UNSTORABLE: Final = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
"""Text that Postgres cannot hold: U+0000."""

LEND_SECONDS: Final = 5.0
"""How long a caller waits for a free connection, or for a new one."""
CLOSE_SECONDS: Final = 0.5
SESSION: Final = {
    "timezone": "UTC",
    "statement_timeout": "15s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "application_name": "certwire",
    # A host that vanished gives up its locks after 25 s rather than Linux's two hours.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


def role_url(settings: Settings, role: str) -> str:
    """Return the database's URL with the role's name and password."""
    parts = urlsplit(settings.database_url)
    password = settings.secret(f"postgres-{role}.password")
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{parts.netloc.split('@')[-1]}"))


async def _keep_session(_connection: object) -> None:
    """Spare the round trip of asyncpg's reset: nothing here changes a pooled session."""


class Database:
    """Connections of one role; opened when first needed, so services start in any order."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", url: str) -> None:
        self._pool = pool
        self._url = url

    @classmethod
    async def open(cls, settings: Settings, role: str) -> "Database":
        """Return the database as seen by `role`, whose schema has the role's name."""
        url = role_url(settings, role)
        pool = await asyncpg.create_pool(
            url,
            min_size=0,
            max_size=settings.database_connections,
            server_settings={**SESSION, "search_path": str(role)},
            init=trace_queries,
            reset=_keep_session,
            command_timeout=20,
            timeout=5,
        )
        return cls(pool, url)

    async def close(self) -> None:
        """Close all connections; those in use get half a second."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(
        self, lost: ErrorCode = ErrorCode.UNAVAILABLE
    ) -> AsyncIterator[Connection]:
        """Lend a connection.

        Raises `UNAVAILABLE` when there is none to be had, `lost` when the server goes while it is
        lent, and `INVALID_REQUEST` for text that cannot be stored.
        """
        try:
            lent = await self._pool.acquire(timeout=LEND_SECONDS)
        except (*LOST, asyncpg.PostgresError) as error:
            raise _unavailable(error) from error
        try:
            yield lent
        except _LOST_IN_WORK as error:
            _discard(lent)
            raise _unavailable(error, lost) from error
        except BUSY as error:
            raise _unavailable(error) from error
        except UNSTORABLE as error:
            raise CertwireError(ErrorCode.INVALID_REQUEST, "text may not hold U+0000") from error
        finally:
            await self._pool.release(lent)

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Connection]:
        """Lend a connection for exactly one statement that changes something.

        It commits by itself, in one round trip; a loss during it is `OUTCOME_UNKNOWN`.
        """
        async with self.connection(ErrorCode.OUTCOME_UNKNOWN) as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Open one transaction.

        Raises `UNAVAILABLE` where the server was lost before the commit, and `OUTCOME_UNKNOWN`
        where it was lost during it.
        """
        async with self.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except _LOST_IN_WORK:
                raise
            except BaseException:
                try:
                    await transaction.rollback()
                except _LOST_IN_WORK:
                    _discard(connection)
                raise
            try:
                await transaction.commit()
            except _LOST_IN_WORK as error:
                raise _unavailable(error, ErrorCode.OUTCOME_UNKNOWN) from error

    async def dedicated(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Return a connection of its own, for locks and listening; the caller closes it."""
        schema = urlsplit(self._url).username or ""
        return await asyncpg.connect(
            self._url, server_settings={**SESSION, "search_path": schema}, timeout=5
        )


async def clock(connection: Connection) -> datetime:
    """Return the time by the server's clock, by which limits and expiry go."""
    moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return moment


async def plan_for_arguments(connection: Connection) -> None:
    """Have the transaction's statements planned for the arguments that they come with.

    For searches whose conditions are optional: a plan for any arguments fits none of them well.
    """
    await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")


def _discard(connection: Connection) -> None:
    """Close the connection, whatever state it is in: nobody gets it after us."""
    with suppress(asyncpg.InterfaceError):  # it is gone already
        connection.terminate()


def _unavailable(error: Exception, code: ErrorCode = ErrorCode.UNAVAILABLE) -> CertwireError:
    LOG.warning("Postgres", extra={"problem": repr(error), "code": str(code)})
    known = code is ErrorCode.UNAVAILABLE
    return CertwireError(code, "the database is unavailable" if known else "")
