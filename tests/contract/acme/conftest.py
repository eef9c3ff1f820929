"""Two replicas of the acme service on a real bus, with a real ACME server."""

from collections.abc import AsyncIterator, Iterator

import pytest

from services.acme.app import application, open_acme
from services.acme.settings import AcmeSettings
from tests.contract.acme.dialogue import Dialogue, answering
from tests.support.acme2certifier import Acme2Certifier
from tests.support.hostile_ca import HostileCa
from tests.support.pebble import ChallengeDns, Pebble, challenge_dns, pebble
from tests.support.registry import Tables
from tests.support.running import bus, running
from tests.support.servers import Place, PostgresServer


@pytest.fixture(scope="session")
def names() -> Iterator[ChallengeDns]:
    """One DNS for all tests of a process."""
    with challenge_dns() as server:
        yield server


@pytest.fixture(scope="session")
def authority(names: ChallengeDns) -> Iterator[Pebble]:
    """One ACME server for all tests of a process."""
    with pebble(names, nonces_rejected_percent=15, alternate_roots=1) as server:
        yield server


def settings_for(
    place: Place, authority: Pebble, names: ChallengeDns, **others: object
) -> AcmeSettings:
    """Return the settings of a service at this place, with this CA."""
    return place.settings(
        AcmeSettings,
        **{
            "acme_directory_url": authority.directory_url,
            "acme_staging_directory_url": authority.directory_url.replace("127.0.0.1", "localhost"),
            "acme_ca_bundle": authority.ca_file,
            "acme_dns_resolver": names.address,
            "acme_http01_port": authority.http_port,
            "acme_lease_seconds": 2,
            **others,
        },
    )


def settings_with(
    place: Place, authority: Acme2Certifier | HostileCa, **others: object
) -> AcmeSettings:
    """Return the settings of a service at this place, with a CA that no name leads to."""
    return place.settings(
        AcmeSettings,
        **{
            "acme_directory_url": authority.directory_url,
            "acme_ca_bundle": authority.ca_file,
            **others,
        },
    )


@pytest.fixture
def tables(postgres: PostgresServer, place: Place) -> Tables:
    """Look into the database of the test's own place."""
    return Tables(postgres, place.database_url)


@pytest.fixture
async def acme(
    bus_place: Place, postgres: PostgresServer, authority: Pebble, names: ChallengeDns
) -> AsyncIterator[Dialogue]:
    """Speak to the acme service as the gateway does."""
    settings = settings_for(bus_place, authority, names)
    local, replica = await open_acme(settings), await open_acme(settings)
    async with (
        running(application(local)),
        running(application(replica)),
        bus(settings, "gateway") as gateway,
        answering(gateway.request, authority.http_port),
    ):
        tables = Tables(postgres, bus_place.database_url)
        yield Dialogue(gateway, local, tables, authority, names)
