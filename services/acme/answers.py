"""What answers a CA's challenges, and its removal (RFC 8555 sections 8.3 and 8.4).

1. An answer is committed before it is given: http-01's is read from the database by whoever is
   asked; of a TXT record it stands there that it is added, and with which credentials.
2. A TXT record is added, and seen at every authoritative server, before the CA is told to look.
3. The end of the order, whatever it is, ends its answers in the same transaction. TXT records stay
   in the database until the provider has confirmed that they are gone, by any replica.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from contracts.acme import ChallengeType, DnsAccess, Issuance
from contracts.dns import DnsProviderName
from services.acme.client import Account, dns_txt_value, key_authorization
from services.acme.dns import DnsProvider, DnsProviderError
from services.acme.dns.propagation import challenge_name, look_at
from services.acme.domain.orders import challenge_failed
from services.acme.leases import holding
from services.acme.service import Acme
from services.acme.store import challenges, dns_records
from services.acme.store.dns_records import DnsRecord
from services.acme.store.orders import OrderRow
from services.acme.store.sealed import RECORD_CREDENTIALS
from shared.secrets import UnsealError

LOG: Final = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
"""How often it is looked whether records are at every server."""
ADD_AGAIN_SECONDS: Final = 60.0
"""How often records are added again that are not at every server yet."""
SILENT_SECONDS: Final = 30.0
"""How long servers may keep silent that do not answer at all."""
REMOVAL_SECONDS: Final = 120.0
"""Whoever removes records has so long; then another replica does."""
REMOVAL_BATCH: Final = 20
REMOVAL_RETRIES: Final = (5.0, 30.0, 120.0, 600.0, 3600.0)
"""After so many seconds it is tried again, and from then on."""
REMOVAL_ATTEMPTS: Final = 170
"""About a week, in which `certwire status` warns of it; then only a person can remove it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A challenge that is to be answered: the name that it proves, and the CA's token."""

    name: str
    token: str


class Answers:
    """Puts answers where the CA looks, and takes them away."""

    def __init__(self, acme: Acme) -> None:
        self._acme = acme

    async def put(
        self,
        order: OrderRow,
        lease: UUID,
        issuance: Issuance,
        account: Account,
        asked: list[Asked],
    ) -> None:
        """Answer the challenges of an order; returns once the CA may look.

        Raises `DnsProviderError`, and `OrderFailedError` where records do not become visible.
        """
        if issuance.dns is None:
            async with holding(self._acme, order.id, lease) as connection:  # 1
                for each in asked:
                    await challenges.insert(
                        connection, each.token, key_authorization(each.token, account.key), order.id
                    )
            return
        records: dict[str, set[str]] = {}
        for each in asked:
            name = await challenge_name(each.name, self._acme.settings.acme_dns_resolver)
            value = dns_txt_value(key_authorization(each.token, account.key))
            records.setdefault(name, set()).add(value)
        await self._announce(order, lease, issuance.dns, records)  # 1
        await self._until_visible(self._acme.provider(issuance.dns), records)  # 2

    async def _announce(
        self, order: OrderRow, lease: UUID, access: DnsAccess, records: Mapping[str, set[str]]
    ) -> None:
        plain = json.dumps(access.credentials).encode()
        async with holding(self._acme, order.id, lease) as connection:
            for name, values in records.items():
                for value in values:
                    record_id = await dns_records.new_id(connection)
                    sealed = self._acme.sealer.seal(plain, RECORD_CREDENTIALS.row(record_id))
                    await dns_records.insert(
                        connection, record_id, order.id, access.provider, sealed, name, value
                    )

    async def _until_visible(self, provider: DnsProvider, records: Mapping[str, set[str]]) -> None:
        """Add records, and wait for every server that answers to have them.

        They are added again now and then: not every provider keeps what two write at once. Servers
        that do not answer are waited for as well, but not for long: a CA asks the others, too.
        """
        settings, began = self._acme.settings, time.monotonic()
        added = -ADD_AGAIN_SECONDS
        while True:
            if time.monotonic() - began - added >= ADD_AGAIN_SECONDS:
                added = time.monotonic() - began
                for name, values in records.items():
                    for value in sorted(values):
                        await provider.add(name, value)
            sight = await look_at(records, settings.acme_dns_resolver)
            passed = time.monotonic() - began
            if not sight.missing or (
                passed > SILENT_SECONDS and not sight.lacking and sight.seen == set(records)
            ):
                return
            if passed > settings.acme_propagation_seconds:
                raise challenge_failed(ChallengeType.DNS_01, sight.missing[0])
            await asyncio.sleep(LOOK_SECONDS)

    async def remove(self) -> None:
        """Remove the records of orders that ended, for as long as the process lives."""
        while True:
            self._acme.records_waiting.clear()
            while await self.remove_some():
                pass
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._acme.records_waiting.wait()

    async def remove_some(self) -> int:
        """Remove some records; return how many were looked at."""
        async with self._acme.runtime.database.statement() as connection:
            records = await dns_records.claim(connection, REMOVAL_SECONDS, REMOVAL_BATCH)
        await asyncio.gather(*map(self._remove, records))
        return len(records)

    async def _remove(self, record: DnsRecord) -> None:
        row = RECORD_CREDENTIALS.row(record.id)
        async with self._acme.runtime.database.statement() as connection:
            if await dns_records.is_wanted(connection, record):
                await dns_records.forget(connection, record.id)  # the other order removes it
                return
        try:
            credentials = json.loads(self._acme.sealer.open(record.sealed_credentials, row))
            access = DnsAccess(provider=DnsProviderName(record.provider), credentials=credentials)
            async with asyncio.timeout(REMOVAL_SECONDS / 2):
                await self._acme.provider(access).remove(record.name, record.value)  # 3
        except (DnsProviderError, TimeoutError) as error:
            await self._try_again(record, str(error) or "no answer in time")
            return
        except (UnsealError, ValueError):
            await self._try_again(record, "the credentials cannot be read")
            return
        async with self._acme.runtime.database.statement() as connection:
            await dns_records.forget(connection, record.id)

    async def _try_again(self, record: DnsRecord, problem: str) -> None:
        seen = {"record": record.name, "provider": record.provider, "problem": problem}
        async with self._acme.runtime.database.statement() as connection:
            if record.attempts >= REMOVAL_ATTEMPTS:
                LOG.error("a TXT record stays: remove it by hand", extra=seen)
                await dns_records.forget(connection, record.id)
                return
            LOG.warning("a TXT record could not be removed", extra=seen)
            wait = REMOVAL_RETRIES[min(record.attempts, len(REMOVAL_RETRIES)) - 1]
            await dns_records.postpone(connection, record.id, wait)
