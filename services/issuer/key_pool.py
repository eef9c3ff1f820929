"""Private keys for CAs and certificates: RSA from a pool that is filled meanwhile.

1. The usual sizes wait in Postgres, sealed. Whoever takes a key deletes it, in a statement of its
   own: a request that fails afterwards has used one up, and none is given out twice.
2. Where the pool is empty, and for other sizes, a process makes the key while the request waits; so
   many wait, and others are told to come back.
3. One more process fills the pool whenever the processor has nothing else to do.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import KeyType
from services.issuer import keys
from services.issuer.key_worker import Worker, WorkerError
from services.issuer.keys import KeyAlgorithm, PrivateKey
from services.issuer.settings import IssuerSettings
from services.issuer.store import key_pool
from services.issuer.store.sealed import POOL_KEY
from shared.database import Database
from shared.secrets import UnsealError

LOG: Final = logging.getLogger(__name__)

MOST_WAITING: Final = 16
"""Requests that wait for a key to be made."""
WAIT_SECONDS: Final = 5.0
"""For a process that is free: a gateway waits for ten, of which RSA-4096 takes a second or two."""
RETRY_SECONDS: Final = 10
FILL_SECONDS: Final = 5.0
"""How often the pool is looked at for what other replicas took."""
WAITED_FOR_NICENESS: Final = 10
"""Somebody waits for the key, but more wait for what the event loop does."""
FILLING_NICENESS: Final = 19
TRIES: Final = 2


class Keys:
    """Where a handler gets a key from. Not to be asked within a transaction: it may take long."""

    def __init__(self, settings: IssuerSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._sizes = {algorithm: size for algorithm, size in settings.key_pool.items() if size}
        self._idle = [Worker(WAITED_FOR_NICENESS) for _ in range(settings.issuer_key_workers)]
        self._workers = tuple(self._idle)
        self._filler = Worker(FILLING_NICENESS)
        self._room = asyncio.Semaphore(settings.issuer_key_workers)
        self._waiting = 0
        self._taken = asyncio.Event()

    async def take(self, algorithm: KeyAlgorithm) -> PrivateKey:
        """Return a new key that nobody else gets.

        Raises `OVERLOADED` where too many wait already, `UNAVAILABLE` where none can be made.
        """
        if algorithm.key_type is not KeyType.RSA:
            return keys.generate(algorithm)
        if algorithm in self._sizes and (key := await self._from_pool(algorithm)) is not None:
            return key
        return await self._made_now(algorithm)

    async def fill(self) -> None:
        """Keep the pool full; ends with all processes ended."""
        try:
            while True:
                self._taken.clear()
                while (algorithm := await self._scarcest()) is not None:
                    await self._add(algorithm)
                with suppress(TimeoutError):
                    async with asyncio.timeout(FILL_SECONDS):
                        await self._taken.wait()
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """End all processes."""
        for worker in (self._filler, *self._workers):
            await worker.close()

    async def _from_pool(self, algorithm: KeyAlgorithm) -> PrivateKey | None:
        while True:
            async with self._database.connection() as connection:
                taken = await key_pool.take(connection, str(algorithm))
            if taken is None:
                return None
            self._taken.set()
            key_id, sealed = taken
            try:
                return keys.from_der(self._settings.sealer.open(sealed, POOL_KEY.row(key_id)))
            except UnsealError as error:  # it is nobody's now
                LOG.warning("a key of the pool does not open", extra={"problem": str(error)})

    async def _made_now(self, algorithm: KeyAlgorithm) -> PrivateKey:
        worker = await self._free_worker()
        try:
            return await _make(worker, algorithm)
        finally:
            self._idle.append(worker)
            self._room.release()

    async def _free_worker(self) -> Worker:
        if self._waiting >= MOST_WAITING:
            raise _overloaded()
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._room.acquire()
        except TimeoutError:
            raise _overloaded() from None
        finally:
            self._waiting -= 1
        return self._idle.pop()

    async def _scarcest(self) -> KeyAlgorithm | None:
        """Return what the pool has the smallest part of; None where it is full."""
        async with self._database.connection() as connection:
            there = await key_pool.counts(connection)
        parts = {
            algorithm: there.get(str(algorithm), 0) / size
            for algorithm, size in self._sizes.items()
        }
        scarcest = min(parts, key=parts.__getitem__, default=None)
        return scarcest if scarcest is not None and parts[scarcest] < 1 else None

    async def _add(self, algorithm: KeyAlgorithm) -> None:
        key = await _make(self._filler, algorithm)
        async with self._database.transaction() as connection:
            key_id = await key_pool.next_id(connection)
            sealed = self._settings.sealer.seal(keys.to_der(key), POOL_KEY.row(key_id))
            await key_pool.add(connection, key_id, str(algorithm), sealed)


def _overloaded() -> CertwireError:
    return CertwireError(
        ErrorCode.OVERLOADED, "too many keys are being made", retry_after_seconds=RETRY_SECONDS
    )


async def _make(worker: Worker, algorithm: KeyAlgorithm) -> PrivateKey:
    for _ in range(TRIES):
        try:
            return await worker.make(algorithm.key_size)
        except WorkerError as error:
            LOG.warning("a key was not made", extra={"problem": str(error)})
    raise CertwireError(ErrorCode.UNAVAILABLE, "no key can be made")
