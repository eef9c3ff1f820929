"""Those who call the platform that a file's tests stop, kill and start."""

from collections.abc import AsyncIterator

import pytest

from tests.support.client import Client, administrator
from tests.support.lossy import Way, lossy
from tests.support.platform import Platform


@pytest.fixture
async def admin(platform: Platform) -> AsyncIterator[Client]:
    """Return the administrator."""
    async with administrator(platform) as admin:
        yield admin


@pytest.fixture
async def way(platform: Platform) -> AsyncIterator[Way]:
    """Return a way to the gateway on which calls get lost."""
    async with lossy(platform.https_port) as way:
        yield way
