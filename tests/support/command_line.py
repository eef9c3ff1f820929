"""The command `certwire` as a person calls it: a process of its own."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.support.servers import Place, PostgresServer

PROGRAM = Path(sys.executable).with_name("certwire")
POINTERS = ("CERTWIRE_DATABASE_URL", "DATABASE_URL", "CERTWIRE_NATS_URL", "NATS_URL")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class CommandLine:
    """Calls `certwire` with the same environment each time."""

    environment: dict[str, str]

    @classmethod
    def at(cls, home: Path, **variables: str) -> "CommandLine":
        """Return the command line of a home, which points nowhere unless `variables` say so."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in POINTERS and not name.startswith("CERTWIRE_")
        }
        return cls({**inherited, "CERTWIRE_HOME": str(home), **variables})

    @classmethod
    def embedded(cls, home: Path, place: Place, postgres: PostgresServer) -> "CommandLine":
        """Return the command line beside the test's servers, as `certwire up` would set it."""
        secrets = postgres.home / "secrets"
        (secrets / "postgres-postgres.password").write_text("superuser")
        home.mkdir(exist_ok=True)
        return cls.at(
            home,
            CERTWIRE_SECRETS_DIR=str(secrets),
            DATABASE_URL=place.database_url,
            NATS_URL=place.nats_url,
        )

    async def start(
        self,
        *words: str,
        before: Sequence[str] = (),
        output: IO[bytes] | int = asyncio.subprocess.PIPE,
    ) -> asyncio.subprocess.Process:
        """Start a command; `before` stands before it, such as `nice`."""
        return await asyncio.create_subprocess_exec(
            *before,
            PROGRAM,
            *words,
            env=self.environment,
            cwd=self.environment["CERTWIRE_HOME"],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    async def run(self, *words: str, seconds: float = 60, before: Sequence[str] = ()) -> Done:
        """Run a command to its end."""
        process = await self.start(*words, before=before)
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate()
        except BaseException:  # the time is over, or the test
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())
