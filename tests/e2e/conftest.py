"""One running platform for all tests of a process, and those who call it."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.client import Client, administrator, identity_of_the_administrator
from tests.support.collector import Collector, collecting
from tests.support.platform import Platform, running_platform
from tests.support.public_platform import PublicPlatform, public_platform

_addresses = itertools.count(2)


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Return what the platform's spans are sent to."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="session")
def platform(collector: Collector) -> Iterator[Platform]:
    """Return a platform; who stops or kills parts of it takes one of their own."""
    with running_platform(CERTWIRE_OTLP_ENDPOINT=collector.url) as platform:
        yield platform


@pytest.fixture(scope="session")
def changing() -> Iterator[Platform]:
    """Return a platform whose administrator changes, and whose instances' days are 90 s long."""
    with running_platform(
        CERTWIRE_ISSUER_INSTANCE_LIFETIME_SECONDS="90", CERTWIRE_PROXY_AGENTS="edge-1"
    ) as platform:
        yield platform


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublicPlatform]:
    """Return a platform that obtains certificates of a CA, and keeps them as files, too."""
    live = tmp_path_factory.mktemp("live")
    with public_platform(
        CERTWIRE_ACME_LIVE_DIR=str(live), CERTWIRE_ACME_RELOAD_COMMAND=f"test ! -e {live}/broken"
    ) as public:
        yield public


@pytest.fixture
async def chief(changing: Platform) -> AsyncIterator[Client]:
    """Return the administrator of the changing platform, whoever that is now."""
    async with administrator(changing) as chief:
        if (await chief.call("GET", "/api/health")).status_code == 200:
            yield chief
            return
    await changing.succeed("admin", "reset")
    async with administrator(changing) as chief:
        yield chief


@pytest.fixture
def address() -> str:
    """Return a loopback address that nobody else calls from: limits go by address."""
    high, low = divmod(next(_addresses), 250)
    return f"127.0.{high}.{low + 2}"


@pytest.fixture
def admin_identity(platform: Platform) -> str:
    """Return the administrator's certificate and key."""
    return identity_of_the_administrator(platform)


@pytest.fixture
async def admin(platform: Platform) -> AsyncIterator[Client]:
    """Return the administrator."""
    async with administrator(platform) as admin:
        yield admin


@pytest.fixture
async def nobody(platform: Platform, address: str) -> AsyncIterator[Client]:
    """Return a caller without any credential."""
    async with Client(platform, address=address) as nobody:
        yield nobody
