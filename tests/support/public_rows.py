"""Rows of the acme service as its orders leave them, with something sealed in every column."""

from datetime import timedelta
from typing import Any

from contracts.acme import CertificateType, OrderKind
from contracts.principal import system
from contracts.subjects import Service
from services.acme.store import accounts, certificates, dns_records, orders, projects
from services.acme.store.certificates import NewCertificate
from services.acme.store.orders import NewOrder
from services.acme.store.sealed import (
    ACCOUNT_KEY,
    CERTIFICATE_CREDENTIALS,
    CERTIFICATE_KEY,
    ORDER_CREDENTIALS,
    ORDER_KEY,
    RECORD_CREDENTIALS,
    SEALED,
)
from shared.clock import utc_now
from shared.database import Connection
from shared.identifiers import uuid7
from shared.sealed_columns import SealedColumn
from shared.secrets import Sealer

DIRECTORY = "https://127.0.0.1:9/directory"
ISSUANCE = '{"email": "ops@example.com", "challenge_type": "dns-01", "provider": "cloudflare"}'


class PublicRows:
    """Inserts rows, on a connection that sees the acme service's schema."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._sealer = sealer

    async def everything(self, name: str) -> None:
        """Insert a row of each table, of a project of that name: its columns are sealed."""
        await self.certificate(name)
        await self.order(name)

    async def certificate(self, name: str, **changes: Any) -> int:  # noqa: ANN401 - any field
        """Insert a certificate that was obtained by dns-01, its project where it is missing."""
        await self._project(name)
        new_id = await certificates.new_id(self._connection)
        now = utc_now()
        fields: dict[str, Any] = {
            "id": new_id,
            "project_id": name,
            "staging": False,
            "type": CertificateType.LETSENCRYPT,
            "domain": f"{name}.example.com",
            "names": (f"{name}.example.com",),
            "fingerprint": f"{new_id:064x}",
            "serial_hex": f"{new_id:x}",
            "subject": f"CN={name}.example.com",
            "issuer": "CN=Example CA",
            "issuer_common_name": "Example CA",
            "issuer_organization": None,
            "not_before": now - timedelta(days=30),
            "not_after": now + timedelta(days=60),
            "chain_pem": "not read here",
            "sealed_key": self._sealed(CERTIFICATE_KEY, new_id, name),
            "account_id": await self._account(name),
            "issuance": ISSUANCE,
            "sealed_credentials": self._sealed(CERTIFICATE_CREDENTIALS, new_id, name),
            "renew_at": now + timedelta(days=30),
        }
        if changes.get("type") is CertificateType.CUSTOM:
            renewal = ("account_id", "issuance", "sealed_credentials", "renew_at")
            changes = {**dict.fromkeys(renewal), **changes}
        await certificates.insert(self._connection, NewCertificate(**{**fields, **changes}))
        return new_id

    async def order(self, name: str) -> None:
        """Insert an order that goes on, a long time from now, and its TXT record."""
        await self._project(name)
        order_id = uuid7()
        await orders.insert(
            self._connection,
            NewOrder(
                id=order_id,
                project_id=name,
                kind=OrderKind.OBTAIN,
                request="0" * 64,
                waits=False,
                domain=f"{name}.example.com",
                names=(f"{name}.example.com",),
                staging=False,
                directory=DIRECTORY,
                account_id=await self._account(name),
                issuance=ISSUANCE,
                sealed_credentials=self._sealed(ORDER_CREDENTIALS, order_id, name),
                replaces=None,
                renewed_from=None,
                actor=system(Service.ACME),
                request_id=str(uuid7()),
            ),
        )
        key = self._sealed(ORDER_KEY, order_id, name)
        await orders.set_key(self._connection, order_id, key, b"a certificate signing request")
        await orders.postpone(self._connection, order_id, timedelta(days=1).total_seconds())
        record_id = await dns_records.new_id(self._connection)
        await dns_records.insert(
            self._connection,
            record_id,
            order_id,
            "cloudflare",
            self._sealed(RECORD_CREDENTIALS, record_id, name),
            f"_acme-challenge.{name}.example.com",
            "a value",
        )

    async def contents(self, sealer: Sealer) -> dict[str, list[str]]:
        """Return what is sealed, by column, as another sealer opens it."""
        return {
            f"{column.table}.{column.column}": sorted(
                [
                    sealer.open(value, column.row(key)).decode()
                    for key, value in await column.others(self._connection, b"\0" * 8, 10_000)
                ]
            )
            for column in SEALED
        }

    async def _project(self, name: str) -> None:
        if await projects.find(self._connection, name) is None:
            await projects.insert(self._connection, name, name.title(), None)
            await projects.set_domain(self._connection, name, f"{name}.example.com")

    async def _account(self, name: str) -> int:
        email = f"{name}@example.com"
        found = await accounts.find(self._connection, DIRECTORY, email)
        if found is None:
            new_id = await accounts.new_id(self._connection)
            sealed = self._sealed(ACCOUNT_KEY, new_id, name)
            found = await accounts.insert(self._connection, new_id, DIRECTORY, email, sealed)
        assert found is not None
        return found.id

    def _sealed(self, column: SealedColumn, key: object, name: str) -> bytes:
        return self._sealer.seal(f"{column.column} of {name}".encode(), column.row(key))
