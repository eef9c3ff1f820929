"""A real issuer and two replicas of the registry on a real bus, with an administrator."""

from collections.abc import AsyncIterator

import pytest

from contracts.registry import LogIn
from contracts.users import GetUser
from services.registry.app import application, open_registry
from services.registry.settings import RegistrySettings
from tests.contract.registry.dialogue import Dialogue
from tests.contract.registry.people import People, Person, bearer
from tests.support.issuer import running_issuer
from tests.support.registry import StandInIssuer, Tables, initialised, quick_passwords
from tests.support.running import bus, call, running
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


@pytest.fixture
async def people(bus_place: Place, postgres: PostgresServer) -> AsyncIterator[People]:
    """Speak for users to two replicas, which do without the issuer; nobody logs in too often."""
    settings = bus_place.settings(
        RegistrySettings,
        registry_logins_per_minute=1000,
        registry_logins_per_minute_of_address=1000,
    )
    issuer = StandInIssuer()
    local, replica = [await open_registry(settings, issuer.request) for _ in range(2)]
    local.passwords, replica.passwords = quick_passwords(), quick_passwords()
    async with (
        running(application(local)),
        running(application(replica)),
        bus(settings, "gateway") as gateway,
    ):
        first = await initialised(local)
        login = LogIn(call=call(), username=first.username, password=first.password)
        pair = await gateway.request(login)
        root = await gateway.request(
            GetUser(call=call(), credential=bearer(pair.access_token), user_id=None)
        )
        tables = Tables(postgres, bus_place.database_url)
        yield People(gateway, tables, Person(root, pair))
