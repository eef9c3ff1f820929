"""A CA that says what a test wants, a client of it, and a place where nobody may ask."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from services.acme.client import Account, AcmeClient, http_client
from tests.support.csr import new_key
from tests.support.hostile_ca import HostileCa, address_of, hostile_ca, serving
from tests.support.pebble import LOOPBACK

CALL_SECONDS = 8.0
"""Of the client here, half of it for a request: far above what any answer takes."""
IMPATIENT_SECONDS = 2.0
"""Where something hangs, which has to be given up after that."""


@dataclass
class Elsewhere:
    """A server that a client of the CA has no business with."""

    address: str
    visits: list[object] = field(default_factory=list)


@pytest.fixture
async def hostile() -> AsyncIterator[HostileCa]:
    async with hostile_ca() as server:
        yield server


@pytest.fixture
async def client(hostile: HostileCa) -> AsyncIterator[AcmeClient]:
    async with http_client(hostile.ca_file) as http:
        yield AcmeClient(hostile.directory_url, http, call_seconds=CALL_SECONDS)


@pytest.fixture
async def impatient(hostile: HostileCa) -> AsyncIterator[AcmeClient]:
    async with http_client(hostile.ca_file) as http:
        yield AcmeClient(hostile.directory_url, http, call_seconds=IMPATIENT_SECONDS)


@pytest.fixture
def account(hostile: HostileCa) -> Account:
    return Account(new_key(), hostile.url("me"))


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    """A port on this machine; the test fails where anybody connects to it."""

    async def visited(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place.visits.append(writer.get_extra_info("peername"))

    with socket.create_server((LOOPBACK, 0)) as listener:
        place = Elsewhere(address_of(listener))
        async with serving(listener, visited):
            yield place
            await asyncio.sleep(0)  # a visit would have been seen by now
            assert place.visits == []
