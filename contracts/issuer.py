"""Commands of the issuer: the certificate authority.

Each kind of profile has its own signing subject, so that NATS permissions say who may have what
signed. Certificates of admin, agents and instances are revoked through their owner only.
"""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from pydantic import Field

from contracts.certificates import RevocationReason, SignedCertificate
from contracts.messages import PAGE_LIMIT, Command, Done, Message, Sha256Hex
from contracts.principal import Principal
from contracts.subjects import CLI, Service, command


class SignCommand(Command[SignedCertificate]):
    """Sign the public key of a CSR under a claim.

    The claim makes it idempotent: the same `claim_id` returns the same certificate, a voided one
    raises `CLAIM_VOIDED`, and one that was used for another key or name `CONFLICT`. Raises
    `INVALID_CSR` and `CA_CANNOT_SIGN`.
    """

    REPLY: ClassVar[type[Message]] = SignedCertificate
    ACTION: ClassVar[str | None] = "cert_create"

    claim_id: UUID
    actor: Principal
    csr_pem: str = Field(max_length=16_384)

    def audit_object(self) -> tuple[str, str]:
        return "claim", str(self.claim_id)


class SignInstanceCertificate(SignCommand):
    """Sign a 24-hour certificate of an instance; `renews` is what it takes the place of."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "instance_certificate", "sign")
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.INSTANCE})

    instance_id: UUID
    renews: Sha256Hex | None = None


class SignAgentCertificate(SignCommand):
    """Sign a 2-year certificate of an agent."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "agent_certificate", "sign")
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.REGISTRY})

    label: str
    renews: Sha256Hex | None = None


class SignAdminCertificate(SignCommand):
    """Sign a 2-year certificate of the administrator."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "admin_certificate", "sign")
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.REGISTRY})

    renews: Sha256Hex | None = None


class SignedBundle(Message):
    """A certificate with its PKCS#12 bundle (PBES2, AES-256, MAC with SHA-256).

    `legacy_pkcs12` holds the same in 3DES and SHA-1, for keychains that import nothing newer. Both
    open with `password`: 32 random hex digits.
    """

    certificate: SignedCertificate
    pkcs12: bytes
    legacy_pkcs12: bytes
    password: str = Field(repr=False)


class GenerateCommand(Command[SignedBundle]):
    """Make a key, sign it and bundle both; the key exists nowhere else afterwards."""

    REPLY: ClassVar[type[Message]] = SignedBundle
    ACTION: ClassVar[str | None] = "cert_create"

    claim_id: UUID
    actor: Principal

    def audit_object(self) -> tuple[str, str]:
        return "claim", str(self.claim_id)


class GenerateAdminBundle(GenerateCommand):
    """Make the PKCS#12 bundle of an administrator.

    A repeated claim raises `CLAIM_VOIDED`: the bundle of the first call cannot be made again.
    """

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "admin_certificate", "generate")
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.REGISTRY})

    renews: Sha256Hex | None = None


class GenerateAgentBundle(GenerateCommand):
    """Make the PKCS#12 bundle of an agent; as `GenerateAdminBundle`."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "agent_certificate", "generate")
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.REGISTRY})

    label: str


class Revocation(Message):
    """What an owner has decided: `revoked_at` and who asked are its own."""

    fingerprint: Sha256Hex
    reason: RevocationReason
    detail: str = ""
    revoked_at: datetime
    actor: Principal
    request_id: str


class RecordedRevocations(Message):
    """`refused` are unknown here, or another owner's; the others are on record."""

    refused: tuple[Sha256Hex, ...]


class RevokeOwnedCertificates(Command[RecordedRevocations]):
    """Record the revocations that the owner has committed; idempotent."""

    REPLY: ClassVar[type[Message]] = RecordedRevocations
    ACTION: ClassVar[str | None] = "cert_revoke"

    revocations: tuple[Revocation, ...] = Field(min_length=1, max_length=PAGE_LIMIT)

    def audit_object(self) -> tuple[str, str]:
        return "certificate", self.revocations[0].fingerprint


class RevokeInstanceCertificates(RevokeOwnedCertificates):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "instance_certificate", "revoke")
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.INSTANCE})


class RevokeRegistryCertificates(RevokeOwnedCertificates):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "registry_certificate", "revoke")
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.REGISTRY})


class VoidClaims(Command[Done]):
    """Revoke what was signed under the claims as undelivered, and refuse them from now on."""

    REPLY: ClassVar[type[Message]] = Done
    ACTION: ClassVar[str | None] = "cert_void"

    claim_ids: tuple[UUID, ...] = Field(min_length=1, max_length=PAGE_LIMIT)

    def audit_object(self) -> tuple[str, str]:
        return "claim", str(self.claim_ids[0])


class VoidInstanceClaims(VoidClaims):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "instance_certificate", "void")
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.INSTANCE})


class VoidRegistryClaims(VoidClaims):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "registry_certificate", "void")
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.REGISTRY})


class GatewayCertificate(Message):
    """The gateway's server certificate with the certificates between it and the root."""

    chain_pem: str
    not_before: datetime
    not_after: datetime


class SignGatewayCertificate(Command[GatewayCertificate]):
    """Sign the gateway's TLS key; the names are the issuer's setting, never the CSR's."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "gateway_certificate", "sign")
    ACTION: ClassVar[str | None] = "cert_create"
    REPLY: ClassVar[type[Message]] = GatewayCertificate

    claim_id: UUID
    csr_pem: str = Field(max_length=16_384)

    def audit_object(self) -> tuple[str, str]:
        return "claim", str(self.claim_id)


class PlatformCa(Message):
    """The content of `ca.crt`: root first, then every issuing certificate still in use."""

    ca_pem: str


class GetPlatformCa(Command[PlatformCa]):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "platform_ca", "get")
    REPLY: ClassVar[type[Message]] = PlatformCa
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.GATEWAY, Service.REGISTRY, CLI})
