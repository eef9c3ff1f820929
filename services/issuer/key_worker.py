"""A process that makes RSA keys: beside the event loop, and behind everybody else at the processor.

Run as `python -m services.issuer.key_worker NICENESS`, it reads a number of bits a line, and writes
a key in DER for each, its length in four octets before it. It ends when its input does, in the
middle of a key too, and so with its parent, however that ends.
"""

import asyncio
import os
import signal
import sys
from threading import Thread
from typing import Final

from contracts.pki import KeyType
from services.issuer import keys
from services.issuer.keys import KeyAlgorithm, PrivateKey

PATIENCE_SECONDS: Final = 180.0
"""An RSA-8192 key takes half a minute on average, and now and then several times that."""
_SIZE_BYTES: Final = 4


class WorkerError(Exception):
    """The process ended, or did not answer in time; the next key is asked of a new one."""


class Worker:
    """The process as its parent has it: started when there is a key to make, one at a time."""

    def __init__(self, niceness: int) -> None:
        self._niceness = niceness
        self._process: asyncio.subprocess.Process | None = None
        self._asked = False

    @property
    def pid(self) -> int | None:
        """Return its process id, None while there is no process."""
        return self._process.pid if self._process else None

    async def make(self, bits: int) -> PrivateKey:
        """Make an RSA key. Raises `WorkerError`."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return keys.from_der(await self._ask(bits))
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            await self.close()
            raise WorkerError(repr(error)) from error
        except BaseException:  # nobody waits for this key: the next one must not get it
            await self.close()
            raise

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            if self._asked:  # who reads from it now sees the end of its output
                await process.wait()
            else:
                await process.communicate()  # its pipes are closed and it is reaped

    async def _ask(self, bits: int) -> bytes:
        if self._process is None or self._process.returncode is not None:
            await self.close()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", __name__, str(self._niceness)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        assert self._process.stdin and self._process.stdout  # noqa: S101, PT018 - they are pipes
        self._process.stdin.write(b"%d\n" % bits)
        self._asked, output = True, self._process.stdout
        try:
            return await output.readexactly(int.from_bytes(await output.readexactly(_SIZE_BYTES)))
        finally:
            self._asked = False


def main(niceness: int) -> None:
    """Make keys until nobody wants any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's: the parent decides
    os.nice(niceness)
    for line in sys.stdin:
        # A thread, for this one has to notice the end of the input; making releases the lock.
        Thread(target=_answer, args=(int(line),), daemon=True).start()
    os._exit(0)  # not `sys.exit`: it would wait for OpenSSL, which cannot be interrupted


def _answer(bits: int) -> None:
    der = keys.to_der(keys.generate(KeyAlgorithm(KeyType.RSA, bits)))
    sys.stdout.buffer.write(len(der).to_bytes(_SIZE_BYTES) + der)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
