"""What a gateway says to the instance service, and what an instance brings along."""

import asyncio
import base64
import os
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from contracts.certificates import SignedCertificate
from contracts.instance import (
    BootstrapCertificate,
    CreateInstance,
    Instance,
    InstanceStatus,
    ListInstanceCertificates,
    RefreshSecrets,
    RenewCertificate,
    SetInstanceStatus,
)
from contracts.messages import Call, Command, IdempotencyKey
from contracts.principal import Credential, CredentialKind, Principal, PrincipalKind
from shared.broker import Bus
from shared.database import Database
from tests.support.running import call
from tests.support.servers import Place

ADMIN = Principal(kind=PrincipalKind.ADMIN, id="admin", name="admin")


def new_csr() -> str:
    """Return a CSR for a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def new_wg_key() -> str:
    """Return a WireGuard public key in base64."""
    return base64.b64encode(os.urandom(32)).decode()


def credential(certificate: SignedCertificate) -> Credential:
    """Return the certificate as it is presented."""
    return Credential(kind=CredentialKind.CERTIFICATE, sha256=certificate.fingerprint)


@dataclass
class Guest:
    """A registered instance with its keys and its current certificate."""

    instance: Instance
    token: str
    certificate: SignedCertificate | None = None
    csr: str = field(default_factory=new_csr)

    @property
    def id(self) -> UUID:
        """Return the instance's id."""
        return self.instance.id


@dataclass
class Dialogue:
    """The gateway's side."""

    gateway: Bus
    database: Database
    place: Place

    async def send(self, command: Command[Any]) -> Any:  # noqa: ANN401 - each command has its reply
        """Send one command."""
        return await self.gateway.request(command)

    async def register(self, **fields: Any) -> Guest:  # noqa: ANN401 - any field of the command
        """Register an instance."""
        created = await self.gateway.request(
            CreateInstance(
                **{
                    "call": call(),
                    "principal": ADMIN,
                    "name": "web",
                    "wg_public_key": new_wg_key(),
                    "vpn_ip": "10.1.2.3",
                    "agent_secrets": {"api_key": "s3cret"},
                    **fields,
                }
            )
        )
        return Guest(created.instance, created.bootstrap.token)

    async def running(self, **fields: Any) -> Guest:  # noqa: ANN401 - any field of the command
        """Register an instance, bootstrap its certificate and start it."""
        guest = await self.register(**fields)
        guest.certificate = await self.bootstrap(guest)
        await self.move(guest, InstanceStatus.RUNNING)
        guest.csr = new_csr()
        return guest

    async def bootstrap(self, guest: Guest, **fields: Any) -> SignedCertificate:  # noqa: ANN401 - any field of the command
        """Exchange the token."""
        return await self.gateway.request(
            BootstrapCertificate(
                **{
                    "call": call(),
                    "instance_id": guest.id,
                    "token": guest.token,
                    "csr_pem": guest.csr,
                    "wg_public_key": guest.instance.wg_public_key,
                    **fields,
                }
            )
        )

    async def renew(self, guest: Guest, **fields: Any) -> SignedCertificate:  # noqa: ANN401 - any field of the command
        """Renew with the guest's certificate; it is not replaced in the guest."""
        assert guest.certificate is not None
        return await self.gateway.request(
            RenewCertificate(
                **{
                    "call": call(),
                    "instance_id": guest.id,
                    "credential": credential(guest.certificate),
                    "csr_pem": guest.csr,
                    "wg_public_key": guest.instance.wg_public_key,
                    **fields,
                }
            )
        )

    async def refresh(self, guest: Guest, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of the command
        """Fetch the secrets."""
        assert guest.certificate is not None
        reply = await self.gateway.request(
            RefreshSecrets(
                **{
                    "call": call(),
                    "instance_id": guest.id,
                    "credential": credential(guest.certificate),
                    "vpn_ip": "10.1.2.3",
                    "wg_public_key": guest.instance.wg_public_key,
                    **fields,
                }
            )
        )
        return dict(reply.agent_secrets)

    async def move(self, guest: Guest, status: InstanceStatus) -> Instance:
        """Set the status as the administrator."""
        return await self.gateway.request(
            SetInstanceStatus(call=call(), principal=ADMIN, instance_id=guest.id, status=status)
        )

    async def inventory(self, guest: Guest) -> list[tuple[str, str | None]]:
        """Return (fingerprint, revocation reason) of the guest's certificates, newest first."""
        page = await self.gateway.request(
            ListInstanceCertificates(call=call(), principal=ADMIN, instance_id=guest.id, limit=100)
        )
        return [(row.fingerprint, row.revocation_reason) for row in page.certificates]

    async def let_time_pass(self, guest: Guest, interval: str) -> None:
        """Move what the database remembers of the guest into the past."""
        async with self.database.statement() as connection:
            await connection.execute(
                "UPDATE instance SET renewed_at = renewed_at - $2::text::interval,"
                " refreshing_since = refreshing_since - $2::text::interval,"
                " failing_since = failing_since - $2::text::interval WHERE id = $1",
                guest.id,
                interval,
            )

    async def eventually_none(self, query: str) -> None:
        """Wait until a query counts nothing any more, for ten seconds at most."""
        async with asyncio.timeout(10):
            while await self.count(query):
                await asyncio.sleep(0.05)

    async def count(self, query: str, *values: object) -> int:
        """Return the number that a query counts in the instance schema."""
        async with self.database.connection() as connection:
            return int(await connection.fetchval(query, *values))


def keyed(key: str, request: str = "a" * 64, scope: str = "b" * 64) -> Call:
    """Return a call with an Idempotency-Key."""
    return call().model_copy(
        update={"idempotency": IdempotencyKey(scope=scope, key=key, request=request)}
    )
