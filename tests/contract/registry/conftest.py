"""A real issuer and two replicas of the registry on a real bus, with an administrator."""

from collections.abc import AsyncIterator

import pytest

from services.registry.app import application, open_registry
from services.registry.settings import RegistrySettings
from tests.contract.registry.dialogue import Dialogue
from tests.support.issuer import running_issuer
from tests.support.registry import Tables, initialised, quick_passwords
from tests.support.running import bus, running
from tests.support.servers import Place, PostgresServer


@pytest.fixture
async def registry(bus_place: Place, postgres: PostgresServer) -> AsyncIterator[Dialogue]:
    """Speak to the registry as the gateway does."""
    settings = bus_place.settings(RegistrySettings)
    local, replica = await open_registry(settings), await open_registry(settings)
    local.passwords = quick_passwords()
    async with (
        running_issuer(bus_place) as issuer,
        running(application(local)),
        running(application(replica)),
        bus(settings, "gateway") as gateway,
    ):
        first = await initialised(local)
        yield Dialogue(
            gateway,
            local,
            issuer,
            Tables(postgres, bus_place.database_url),
            first.admin.certificate.fingerprint,
            first.admin.password,
        )
