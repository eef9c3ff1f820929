"""What the handlers and the background work of the acme service go by."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import httpx2

from contracts.acme import DnsAccess
from contracts.dns import CREDENTIALS
from services.acme.client import AcmeClient, Eab
from services.acme.dns import DnsProvider, Endpoints, open_provider
from services.acme.live import Live
from services.acme.settings import AcmeSettings
from shared.runtime import Runtime

RANDOM: Final = random.SystemRandom()
PREFLIGHTS_AT_ONCE: Final = 10
"""By one replica: each asks hosts that somebody else chose, and waits for them."""


class UnknownDirectoryError(Exception):
    """A directory that the settings do not name, or not any longer."""


class Acme:
    """The dependencies, made once by `app.build`. `share` returns a number from 0 to 1."""

    def __init__(
        self,
        runtime: Runtime,
        settings: AcmeSettings,
        http: httpx2.AsyncClient,
        share: Callable[[], float] = RANDOM.random,
    ) -> None:
        self.runtime: Final = runtime
        self.settings: Final = settings
        self.sealer: Final = settings.sealer
        self.share: Final = share
        self.live: Final = Live(runtime, settings, self.sealer)
        self.orders_waiting: Final = asyncio.Event()
        """Set when there is an order to work on."""
        self.records_waiting: Final = asyncio.Event()
        """Set when there are TXT records to remove."""
        self.preflights: Final = asyncio.Semaphore(PREFLIGHTS_AT_ONCE)
        self._http = http
        self._clients: dict[str, AcmeClient] = {}
        self._endpoints = Endpoints(
            cloudflare_base_url=settings.acme_dns_cloudflare_base_url,
            aws_base_url=settings.acme_dns_aws_base_url,
            digitalocean_base_url=settings.acme_dns_digitalocean_base_url,
            godaddy_base_url=settings.acme_dns_godaddy_base_url,
            google_base_url=settings.acme_dns_google_base_url,
            google_token_url=settings.acme_dns_google_token_url,
        )

    def client(self, directory: str) -> AcmeClient:
        """Return the client of a CA. Raises `UnknownDirectoryError`: no other is ever contacted."""
        settings = self.settings
        if directory not in {
            settings.acme_directory_url,
            settings.acme_staging_directory_url,
        }:
            raise UnknownDirectoryError(directory)
        if directory not in self._clients:
            self._clients[directory] = AcmeClient(directory, self._http)
        return self._clients[directory]

    def provider(self, access: DnsAccess) -> DnsProvider:
        """Return a DNS provider, as its credentials open it."""
        credentials = CREDENTIALS[access.provider].model_validate(access.credentials)
        return open_provider(credentials, self._endpoints, self._http)

    @property
    def eab(self) -> Eab | None:
        """Return what binds accounts to one that the CA knows otherwise, where it is set."""
        account = self.settings.external_account
        return Eab(*account) if account is not None else None

    async def close(self) -> None:
        """Close the connections to CAs and providers."""
        await self._http.aclose()
