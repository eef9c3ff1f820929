"""An issuer for the tests of those that call it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.issuer.app import build
from services.issuer.bootstrap import create_platform_ca
from services.issuer.settings import IssuerSettings
from shared.runtime import Application
from tests.support.running import running
from tests.support.servers import Place


@asynccontextmanager
async def running_issuer(place: Place) -> AsyncIterator[Application]:
    """Run an issuer with new platform CAs; `place` has a NATS."""
    settings = place.settings(IssuerSettings)
    await create_platform_ca(settings)
    async with running(await build(settings)) as application:
        yield application
