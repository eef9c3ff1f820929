"""The provider that some credentials belong to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, assert_never

import httpx2

from contracts.dns import (
    AwsCredentials,
    CloudflareCredentials,
    DigitaloceanCredentials,
    DnsCredentials,
    GodaddyCredentials,
    GoogleCredentials,
)
from services.acme.dns.cloudflare import Cloudflare
from services.acme.dns.digitalocean import Digitalocean
from services.acme.dns.endpoints import Endpoints
from services.acme.dns.godaddy import Godaddy
from services.acme.dns.google import GoogleCloudDns
from services.acme.dns.names import record_name, record_value
from services.acme.dns.provider import DnsProvider, DnsProviderError

OPERATION_SECONDS: Final = 90.0
"""For one record with all calls that it takes: zones to try, a page or two, a few conflicts."""


def open_provider(
    credentials: DnsCredentials, endpoints: Endpoints, http: httpx2.AsyncClient
) -> DnsProvider:
    """Return the provider; nothing is asked yet. `http` may be shared with anything else."""
    return _Bounded(_opened(credentials, endpoints, http))


def _opened(
    credentials: DnsCredentials, endpoints: Endpoints, http: httpx2.AsyncClient
) -> DnsProvider:
    match credentials:
        case CloudflareCredentials():
            return Cloudflare(credentials, endpoints.cloudflare_base_url, http)
        case AwsCredentials():
            from services.acme.dns.aws import Route53  # botocore is large

            return Route53(credentials, endpoints.aws_base_url, http)
        case DigitaloceanCredentials():
            return Digitalocean(credentials, endpoints.digitalocean_base_url, http)
        case GodaddyCredentials():
            return Godaddy(credentials, endpoints.godaddy_base_url, http)
        case GoogleCredentials():
            urls = (endpoints.google_base_url, endpoints.google_token_url)
            return GoogleCloudDns(credentials, *urls, http)
        case _:
            assert_never(credentials)


class _Bounded:
    """A provider that is given only what can be a record, and only so much time."""

    def __init__(self, provider: DnsProvider) -> None:
        self._provider = provider

    async def add(self, name: str, value: str) -> None:
        async with _in_time():
            await self._provider.add(record_name(name), record_value(value))

    async def remove(self, name: str, value: str) -> None:
        async with _in_time():
            await self._provider.remove(record_name(name), record_value(value))


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(OPERATION_SECONDS):
            yield
    except TimeoutError:
        reason = f"the DNS provider took over {OPERATION_SECONDS:g} s for one record"
        raise DnsProviderError(reason, transient=True) from None
