"""An initialised home whose registry and issuer can run in the test's own process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.issuer import app as issuer
from services.issuer.settings import IssuerSettings
from services.registry import app as registry
from services.registry.settings import RegistrySettings
from tests.support.command_line import CommandLine
from tests.support.registry import Tables
from tests.support.running import running
from tests.support.servers import Place


@dataclass(frozen=True)
class Stack:
    """Where it is, its command line, and a look into its database."""

    line: CommandLine
    home: Path
    place: Place
    tables: Tables

    @asynccontextmanager
    async def services(self) -> AsyncIterator[None]:
        """Run registry and issuer."""
        place = Place(self.home, self.place.database_url, self.place.nats_url)
        others = {"CERTWIRE_SECRETS_DIR": self.place.home / "secrets"}
        async with (
            running(await issuer.build(place.settings(IssuerSettings, **others))),
            running(await registry.build(place.settings(RegistrySettings, **others))),
        ):
            yield
