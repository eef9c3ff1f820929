"""Commands of the acme service: projects, their domains, and certificates that the public trusts.

Whoever asks is resolved by the gateway; the acme service authorises (`FORBIDDEN`). Commands about a
project raise `NOT_FOUND` where there is none of the id.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Generic
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue, field_validator, model_validator

from contracts.dns import CREDENTIALS, DnsProviderName
from contracts.errors import ErrorReply
from contracts.messages import PAGE_LIMIT, Command, Done, Message, ReplyT, SerialHex, Sha256Hex
from contracts.principal import Principal
from contracts.subjects import Service, command

PEM_CHARACTERS = 65_536
"""A certificate with its chain; ten certificates with RSA-4096 keys need a third of it."""
HOSTNAME = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
"""A DNS name of two labels or more in lower case (RFC 1035 section 2.3.1, RFC 1123 section 2.1)."""

ProjectId = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")]
"""A slug."""


def _is_no_address(domain: str) -> str:
    """Return the name; one whose last label is a number would be an IPv4 address."""
    if domain.rpartition(".")[2].isdigit():
        raise ValueError("a DNS name, not an address")
    return domain


Domain = Annotated[
    str,
    Field(pattern=rf"^(?:\*\.)?{HOSTNAME}$", max_length=253),
    AfterValidator(_is_no_address),
]
"""What a certificate is for; a wildcard's certificate holds the name below which it is, too."""
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,128}$")]
"""A challenge's token (RFC 8555 section 8.1): base64url, at least 128 bits of it."""


Email = Annotated[
    str,
    Field(pattern=rf"^[A-Za-z0-9.!#$&'*+/=^_`{{|}}~-]{{1,64}}@{HOSTNAME}$", max_length=254),
]
"""A contact as a CA takes it in a `mailto` URL (RFC 8555 section 7.3): one address and no more."""

RELOAD_FAILED: Final = "Certificate renewed but nginx reload failed"
"""The portlama specification's text, of an order whose certificate is there."""


class ProjectStatus(StrEnum):
    ACTIVE = "active"


class Project(Message):
    """What a certificate is for: an application with a domain."""

    id: ProjectId
    name: str
    description: str | None
    status: ProjectStatus
    domain: Domain | None
    created_at: datetime
    updated_at: datetime


class ProjectPage(Message):
    projects: tuple[Project, ...]
    next_cursor: str | None


class ChallengeType(StrEnum):
    HTTP_01 = "http-01"
    DNS_01 = "dns-01"


class KeyType(StrEnum):
    RSA = "rsa"
    EC = "ec"


class CertificateType(StrEnum):
    """Where a certificate comes from: an ACME server, or an upload."""

    LETSENCRYPT = "letsencrypt"
    CUSTOM = "custom"


class CertificateStatus(StrEnum):
    """`expiring_soon` is 30 days or fewer before the end."""

    VALID = "valid"
    EXPIRING_SOON = "expiring_soon"
    EXPIRED = "expired"
    REVOKED = "revoked"


class PublicCertificate(Message):
    """The certificate of a project, without its key; status and days are by the database's clock.

    `issued_at` is its `notBefore`. An issuer has a common name, an organisation, or both.
    """

    project_id: ProjectId
    domain: Domain
    names: tuple[str, ...]
    type: CertificateType
    staging: bool
    issued_at: datetime
    expires_at: datetime
    days_until_expiry: int
    status: CertificateStatus
    issuer_common_name: str | None
    issuer_organization: str | None
    serial_hex: SerialHex
    fingerprint: Sha256Hex
    auto_renew: bool
    revoked_at: datetime | None
    last_renew_attempt: datetime | None
    last_renew_error: str | None


class FoundCertificate(Message):
    """None where a project has no certificate."""

    certificate: PublicCertificate | None


class OrderKind(StrEnum):
    OBTAIN = "obtain"
    RENEW = "renew"
    DRY_RUN = "dry_run"


class OrderState(StrEnum):
    """Whether it still goes on."""

    PENDING = "pending"
    VALID = "valid"
    FAILED = "failed"


class Order(Message):
    """The way to one certificate. `error` is what a failed one is answered with.

    `certificate` is what a valid one gave (nothing of it is kept by a dry run), `renewed_from` the
    `notBefore` of what it took the place of, `warning` what went wrong after it was there.
    """

    id: UUID
    project_id: ProjectId
    domain: Domain
    kind: OrderKind
    state: OrderState
    staging: bool
    created_at: datetime
    ended_at: datetime | None
    error: ErrorReply | None
    certificate: PublicCertificate | None
    renewed_from: datetime | None
    warning: str | None


class OrderList(Message):
    orders: tuple[Order, ...]


class DnsAccess(Message):
    """A DNS provider, and the credentials that its model in `contracts.dns` takes."""

    provider: DnsProviderName
    credentials: dict[str, JsonValue] = Field(repr=False)

    @model_validator(mode="after")
    def _are_its_own(self) -> "DnsAccess":
        CREDENTIALS[self.provider].model_validate(self.credentials)
        return self


class Issuance(Message):
    """How a certificate is obtained, now and at every renewal.

    `key_size` is that of an RSA key; an EC key is on P-256.
    """

    email: Email
    challenge_type: ChallengeType
    dns: DnsAccess | None = Field(default=None, repr=False)
    key_type: KeyType = KeyType.RSA
    key_size: int = 2048
    auto_renew: bool = True
    staging: bool = False

    @field_validator("key_size")
    @classmethod
    def _is_a_size(cls, size: int) -> int:
        if size not in {2048, 4096}:
            raise ValueError("2048 or 4096")
        return size

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "Issuance":
        if (self.challenge_type is ChallengeType.DNS_01) != (self.dns is not None):
            raise ValueError("dns-01 goes with a DNS provider, and http-01 with none")
        return self


# --- Projects -----------------------------------------------------------------------------------


class ListProjects(Command[ProjectPage]):
    """List projects in the order of their making."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "project", "list")
    REPLY: ClassVar[type[Message]] = ProjectPage

    actor: Principal
    limit: int = Field(default=100, ge=1, le=PAGE_LIMIT)
    cursor: str | None = None


class CreateProject(Command[Project]):
    """Make a project. Raises `ALREADY_EXISTS`."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "project", "create")
    ACTION: ClassVar[str | None] = "project_create"
    REPLY: ClassVar[type[Message]] = Project

    actor: Principal
    project_id: ProjectId
    name: str = Field(min_length=1, max_length=255)
    description: str | None = Field(default=None, max_length=1000)

    def audit_object(self) -> tuple[str, str]:
        return "project", self.project_id


class ProjectCommand(Command[ReplyT], Generic[ReplyT]):
    """A command about one project."""

    actor: Principal
    project_id: ProjectId

    def audit_object(self) -> tuple[str, str]:
        return "project", self.project_id


class GetProject(ProjectCommand[Project]):
    SUBJECT: ClassVar[str] = command(Service.ACME, "project", "get")
    REPLY: ClassVar[type[Message]] = Project


class DeleteProject(ProjectCommand[Done]):
    """Delete a project, its certificate and keys included; it is not revoked by this.

    Raises `CONFLICT` while an order goes on.
    """

    SUBJECT: ClassVar[str] = command(Service.ACME, "project", "delete")
    ACTION: ClassVar[str | None] = "project_delete"
    REPLY: ClassVar[type[Message]] = Done


class SetDomain(ProjectCommand[Project]):
    """Say which domain a project has; the one that it has already is fine.

    Raises `CONFLICT` where another project has the domain, where the project has a certificate for
    another one, and while an order goes on.
    """

    SUBJECT: ClassVar[str] = command(Service.ACME, "domain", "set")
    ACTION: ClassVar[str | None] = "project_set_domain"
    REPLY: ClassVar[type[Message]] = Project

    domain: Domain


class RemoveDomain(ProjectCommand[Project]):
    """Let a project have no domain. Raises as `SetDomain`, and `NOT_FOUND` where it has none."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "domain", "remove")
    ACTION: ClassVar[str | None] = "project_remove_domain"
    REPLY: ClassVar[type[Message]] = Project


# --- Certificates -------------------------------------------------------------------------------


class GetPublicCertificate(ProjectCommand[FoundCertificate]):
    SUBJECT: ClassVar[str] = command(Service.ACME, "certificate", "get")
    REPLY: ClassVar[type[Message]] = FoundCertificate


class ObtainCertificate(ProjectCommand[Order]):
    """Begin an order, or join the one that goes on for an identical request; does not wait for it.

    Raises `AGAINST_POLICY` where the project has no domain or a wildcard would need dns-01,
    `CONFLICT` while another order goes on, and `CA_UNAVAILABLE` while the CA limits us.
    """

    SUBJECT: ClassVar[str] = command(Service.ACME, "order", "obtain")
    ACTION: ClassVar[str | None] = "order_create"
    REPLY: ClassVar[type[Message]] = Order

    issuance: Issuance
    dry_run: bool = False


class RenewPublicCertificate(ProjectCommand[Order]):
    """Begin the renewal of the project's certificate, or join the one that goes on.

    Raises `NOT_FOUND` without a certificate, `AGAINST_POLICY` for an uploaded one, and as
    `ObtainCertificate`.
    """

    SUBJECT: ClassVar[str] = command(Service.ACME, "order", "renew")
    ACTION: ClassVar[str | None] = "order_create"
    REPLY: ClassVar[type[Message]] = Order


class GetOrder(Command[Order]):
    """Ask how an order is; for whoever may renew. Raises `NOT_FOUND`."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "order", "get")
    REPLY: ClassVar[type[Message]] = Order

    actor: Principal
    order_id: UUID


class ListOrders(ProjectCommand[OrderList]):
    """List a project's last orders, the newest first."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "order", "list")
    REPLY: ClassVar[type[Message]] = OrderList

    limit: int = Field(default=20, ge=1, le=100)


class CertificateMaterial(Message):
    """A certificate with its chain, in whatever order, and its private key, in PEM."""

    certificate: str = Field(max_length=PEM_CHARACTERS)
    private_key: str = Field(max_length=PEM_CHARACTERS, repr=False)


class UploadCertificate(ProjectCommand[PublicCertificate]):
    """Put a certificate of another CA in the place of the project's.

    Raises `INVALID_CERTIFICATE` with the reason, `AGAINST_POLICY` without a domain, and `CONFLICT`
    while an order goes on.
    """

    SUBJECT: ClassVar[str] = command(Service.ACME, "certificate", "upload")
    ACTION: ClassVar[str | None] = "cert_upload"
    REPLY: ClassVar[type[Message]] = PublicCertificate

    material: CertificateMaterial = Field(repr=False)


class Validation(Message):
    """What an upload would say. The facts are there where it is `valid`, else the `error`."""

    valid: bool
    domain: str | None = None
    expires_at: datetime | None = None
    issuer_common_name: str | None = None
    issuer_organization: str | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None


class ValidateCertificate(ProjectCommand[Validation]):
    SUBJECT: ClassVar[str] = command(Service.ACME, "certificate", "validate")
    REPLY: ClassVar[type[Message]] = Validation

    material: CertificateMaterial = Field(repr=False)


class RevokePublicCertificate(ProjectCommand[Done]):
    """Revoke the project's certificate at its CA; it stays, as revoked, and is not renewed.

    An uploaded one is only marked: its CA is not ours to ask. Raises `NOT_FOUND`,
    `ALREADY_REVOKED`, `CONFLICT` while an order goes on, `CA_UNAVAILABLE`, and `ORDER_FAILED` where
    the CA refuses.
    """

    SUBJECT: ClassVar[str] = command(Service.ACME, "certificate", "revoke")
    ACTION: ClassVar[str | None] = "cert_revoke"
    REPLY: ClassVar[type[Message]] = Done


class RemoveCertificate(ProjectCommand[Done]):
    """Forget the project's certificate and its key. Raises `NOT_FOUND` and `CONFLICT`."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "certificate", "remove")
    ACTION: ClassVar[str | None] = "cert_remove"
    REPLY: ClassVar[type[Message]] = Done


class CertificateChain(Message):
    """PEM, the leaf first."""

    domain: Domain
    chain_pem: str
    fingerprint: Sha256Hex


class DownloadCertificate(ProjectCommand[CertificateChain]):
    """Raises `NOT_FOUND` without a certificate."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "certificate", "download")
    REPLY: ClassVar[type[Message]] = CertificateChain


class PrivateKey(Message):
    """PKCS#8 in PEM."""

    domain: Domain
    private_key_pem: str = Field(repr=False)
    fingerprint: Sha256Hex
    """Of the certificate that it belongs to."""


class GetPrivateKey(ProjectCommand[PrivateKey]):
    """Raises `NOT_FOUND` without a certificate. Recorded: the key leaves the platform."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "private_key", "get")
    ACTION: ClassVar[str | None] = "cert_export_private_key"
    REPLY: ClassVar[type[Message]] = PrivateKey


class PreflightCheck(Message):
    """One of `dns`, `http`, `caa`, `provider`, `ca`; `reason` in plain words where it is not ok."""

    name: str
    ok: bool
    reason: str | None = None


class Preflight(Message):
    checks: tuple[PreflightCheck, ...]


class CheckIssuance(ProjectCommand[Preflight]):
    """Try everything that an order needs, without one. Raises `AGAINST_POLICY` without a domain."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "order", "check")
    ACTION: ClassVar[str | None] = "cert_preflight"
    REPLY: ClassVar[type[Message]] = Preflight

    issuance: Issuance


# --- Answers to the CA --------------------------------------------------------------------------


class HttpChallenge(Message):
    key_authorization: str


class GetHttpChallenge(Command[HttpChallenge]):
    """Ask what answers an http-01 challenge (RFC 8555 section 8.3); raises `NOT_FOUND`."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "http_challenge", "get")
    REPLY: ClassVar[type[Message]] = HttpChallenge
    PUBLIC: ClassVar[bool] = True

    token: Token = Field(repr=False)


# --- For the administrator ----------------------------------------------------------------------


class DomainCertificate(Message):
    """An ACME certificate, and where its files are below the live directory."""

    domain: Domain
    expires_at: datetime
    revoked: bool
    path: str


class DomainCertificatePage(Message):
    certificates: tuple[DomainCertificate, ...]
    next_cursor: str | None


class ListDomainCertificates(Command[DomainCertificatePage]):
    """List ACME certificates that are neither staging's nor revoked."""

    SUBJECT: ClassVar[str] = command(Service.ACME, "domain_certificate", "list")
    REPLY: ClassVar[type[Message]] = DomainCertificatePage

    actor: Principal
    limit: int = Field(default=PAGE_LIMIT, ge=1, le=PAGE_LIMIT)
    cursor: str | None = None


class RenewalSchedule(Message):
    """`next_run` is when the next certificate is due, `last_run` when one was renewed last."""

    active: bool
    next_run: datetime | None
    last_run: datetime | None


class GetRenewalSchedule(Command[RenewalSchedule]):
    SUBJECT: ClassVar[str] = command(Service.ACME, "renewal_schedule", "get")
    REPLY: ClassVar[type[Message]] = RenewalSchedule

    actor: Principal


class RenewDomain(Command[Order]):
    """Begin the renewal of a domain's ACME certificate, whichever project it belongs to.

    Raises as `RenewPublicCertificate`.
    """

    SUBJECT: ClassVar[str] = command(Service.ACME, "domain_certificate", "renew")
    ACTION: ClassVar[str | None] = "order_create"
    REPLY: ClassVar[type[Message]] = Order

    actor: Principal
    domain: Domain

    def audit_object(self) -> tuple[str, str]:
        return "domain", self.domain
