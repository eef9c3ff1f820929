"""An account at each provider, with a server of its API, and with credentials right and wrong."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import httpx2
from cryptography.hazmat.primitives.asymmetric import rsa

from contracts.dns import (
    CloudflareCredentials,
    DigitaloceanCredentials,
    DnsCredentials,
    GodaddyCredentials,
    GoogleCredentials,
    GoogleServiceAccount,
)
from services.acme.dns import DnsProvider, Endpoints, open_provider
from tests.support.dns_providers.cloudflare import CloudflareApi
from tests.support.dns_providers.digitalocean import DigitaloceanApi
from tests.support.dns_providers.faults import Faulty, serving
from tests.support.dns_providers.godaddy import GodaddyApi
from tests.support.dns_providers.google import PROJECT, GoogleApi, service_account
from tests.support.dns_providers.hosting import Hosting, MemoryHosting, Publish, nowhere

DEAD_END = "http://127.0.0.1:1"
NOWHERE = Endpoints(**dict.fromkeys(Endpoints.__slots__, DEAD_END))
"""A provider that asks for another's address finds nobody there."""


@dataclass
class Account:
    """What a test has of a provider. `secrets` are what nobody may read anywhere."""

    hosting: Hosting
    api: object
    server: Faulty
    endpoints: Endpoints
    credentials: DnsCredentials
    wrong: DnsCredentials
    secrets: tuple[str, ...]
    http: httpx2.AsyncClient

    @property
    def provider(self) -> DnsProvider:
        """Return a new way to the account."""
        return open_provider(self.credentials, self.endpoints, self.http)

    @property
    def stranger(self) -> DnsProvider:
        """Return somebody who has other credentials."""
        return open_provider(self.wrong, self.endpoints, self.http)


class Opened(Protocol):
    """Runs a provider with an account, whose records are published."""

    def __call__(self, publish: Publish = nowhere) -> AbstractAsyncContextManager[Account]:
        """Return what runs it until the block ends."""


@asynccontextmanager
async def cloudflare(publish: Publish = nowhere) -> AsyncIterator[Account]:
    """Run Cloudflare."""
    hosting, token = MemoryHosting(publish), "cloudflare-token-1"
    api = CloudflareApi(hosting, token)
    server = Faulty(api.application)
    async with serving(server) as url, client() as http:
        yield Account(
            hosting,
            api,
            server,
            replace(NOWHERE, cloudflare_base_url=f"{url}/client/v4"),
            CloudflareCredentials(api_token=token),
            CloudflareCredentials(api_token="another-token"),
            (token, "another-token"),
            http,
        )


@asynccontextmanager
async def digitalocean(publish: Publish = nowhere) -> AsyncIterator[Account]:
    """Run DigitalOcean."""
    hosting, token = MemoryHosting(publish), "digitalocean-token-1"
    api = DigitaloceanApi(hosting, token)
    server = Faulty(api.application)
    async with serving(server) as url, client() as http:
        yield Account(
            hosting,
            api,
            server,
            replace(NOWHERE, digitalocean_base_url=url),
            DigitaloceanCredentials(api_token=token),
            DigitaloceanCredentials(api_token="another-token"),
            (token, "another-token"),
            http,
        )


@asynccontextmanager
async def godaddy(publish: Publish = nowhere) -> AsyncIterator[Account]:
    """Run GoDaddy."""
    hosting, key, secret = MemoryHosting(publish), "godaddy-key-1", "godaddy-secret-1"
    api = GodaddyApi(hosting, key, secret)
    server = Faulty(api.application)
    async with serving(server) as url, client() as http:
        yield Account(
            hosting,
            api,
            server,
            replace(NOWHERE, godaddy_base_url=url),
            GodaddyCredentials(api_key=key, api_secret=secret),
            GodaddyCredentials(api_key=key, api_secret="another-secret"),
            (key, secret, "another-secret"),
            http,
        )


@asynccontextmanager
async def google(publish: Publish = nowhere) -> AsyncIterator[Account]:
    """Run Google Cloud DNS."""
    hosting = MemoryHosting(publish)
    key, another = google_keys()
    api = GoogleApi(hosting, key.public_key())
    server = Faulty(api.application)
    async with serving(server) as url, client() as http:
        yield Account(
            hosting,
            api,
            server,
            replace(NOWHERE, google_base_url=f"{url}/dns/v1", google_token_url=f"{url}/token"),
            google_credentials(key),
            google_credentials(another),
            tuple(service_account(key)["private_key"].splitlines()[1:-1]),
            http,
        )


def google_credentials(key: rsa.RSAPrivateKey) -> GoogleCredentials:
    """Return the credentials of a key."""
    account = GoogleServiceAccount.model_validate(service_account(key))
    return GoogleCredentials(project_id=PROJECT, credentials=account)


@cache
def google_keys() -> tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]:
    """Return the key of the service account, and another's."""
    key, another = (rsa.generate_private_key(65_537, 2048) for _ in range(2))
    return key, another


def client() -> httpx2.AsyncClient:
    """Return an HTTP client that heeds nothing but what it is told."""
    return httpx2.AsyncClient(trust_env=False, verify=_trust())


@cache
def _trust() -> ssl.SSLContext:
    """Return the machine's trust, read once."""
    return ssl.create_default_context()
