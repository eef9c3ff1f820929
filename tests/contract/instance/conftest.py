"""A real issuer and a real instance service on a real bus."""

from collections.abc import AsyncIterator

import pytest

from services.instance.app import build as build_instance
from services.instance.settings import InstanceSettings
from services.issuer.app import build as build_issuer
from services.issuer.bootstrap import create_platform_ca
from services.issuer.settings import IssuerSettings
from tests.contract.instance.dialogue import Dialogue
from tests.support.running import bus, running
from tests.support.servers import Place


@pytest.fixture
async def instances(bus_place: Place) -> AsyncIterator[Dialogue]:
    """Speak to the instance service as the gateway does."""
    issuer_settings = bus_place.settings(IssuerSettings)
    await create_platform_ca(issuer_settings)
    async with (
        running(await build_issuer(issuer_settings)),
        running(await build_instance(bus_place.settings(InstanceSettings))) as application,
        bus(bus_place.settings(InstanceSettings), "gateway") as gateway,
    ):
        yield Dialogue(gateway, application.runtime.database, bus_place)
