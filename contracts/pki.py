"""Commands of the issuer that users give: CAs and certificates of their own.

The gateway has resolved the credential; `actor` is the principal that it stands for, and the issuer
decides what it may do. Ids are integers and never used again.
"""

from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, ClassVar, Generic
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from contracts.certificates import CertificateKind, RevocationReason
from contracts.messages import PAGE_LIMIT, Command, Done, Message, ReplyT, SerialHex, Sha256Hex
from contracts.principal import Principal
from contracts.subjects import CLI, Service, command

Id = Annotated[int, Field(ge=1, lt=2**63)]
LARGEST_PAGE = 1000
"""What the dialect's `limit` takes; a reply of this size stays below `max_payload`."""
OCSP_REQUEST_BYTES = 16_384
"""Room for some hundred certificates, or a signed request with its chain."""
CA_VALID_DAYS = 3650
MOST_VALID_DAYS = 36_500
"""A hundred years: what is meant for ever is meant for no end that anybody sees."""
MOST_KEY_BITS = 8192
MOST_PATH_LENGTH = 16
"""Deeper than anybody's hierarchy; OpenSSL follows 100 certificates at the most."""
MOST_NAMES = 100
"""Alternative names of a certificate: as many as Let's Encrypt allows."""
CERTIFICATE_PAGE = 100
"""Certificates in one reply; see `CA_PAGE`."""
MOST_SUBTREES = 20
"""Of one type in a CA's name constraints: every verifier compares every name with each."""
CA_PAGE = 50
"""CAs in one reply: with all that may be said of each it stays below `max_payload`."""


def _on_one_line(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("printable characters, without spaces at the ends")
    return text


def _url_to_append_to(text: str) -> str:
    """Check what `/crl/<slug>` is to be appended to; it stands in certificates as IA5String."""
    parts = urlsplit(text)
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("ASCII without spaces")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an http or https URL")
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise ValueError("a URL without user, query and fragment")
    if parts.port == 0:  # .port raises ValueError where it is no port at all
        raise ValueError("a URL with a port that there is")
    return text


def _no_number(value: object) -> object:
    if isinstance(value, int):
        raise ValueError("address and prefix length as text")  # noqa: TRY004 - pydantic's error
    return value


OneLine = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_on_one_line)]
"""A name as it is shown in lists and logs."""
Text = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
CrlBaseUrl = Annotated[str, Field(max_length=1024), AfterValidator(_url_to_append_to)]
DnsSubtree = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$",
    ),
]
"""A DNS name and all below it; of mail addresses the host, alone (RFC 5280 section 4.2.1.10)."""
DnsSubtrees = Annotated[tuple[DnsSubtree, ...], Field(max_length=MOST_SUBTREES)]
IpRange = Annotated[IPv4Network | IPv6Network, BeforeValidator(_no_number)]
IpRanges = Annotated[tuple[IpRange, ...], Field(max_length=MOST_SUBTREES)]


class KeyType(StrEnum):
    """`key_size` goes with it: bits of the modulus, or 256, 384 and 521 for the NIST curves."""

    RSA = "rsa"
    EC = "ec"
    ED25519 = "ed25519"


class Capability(StrEnum):
    """What a user may be granted on one certificate authority."""

    CREATE_CERT = "create_cert"
    REVOKE_CERT = "revoke_cert"
    EXPORT_PRIVATE_KEY = "export_private_key"
    DELETE_CA = "delete_ca"


class CaState(StrEnum):
    """A retired CA signs nothing new, but CRLs and OCSP answers; so does a deleted one, unseen."""

    ACTIVE = "active"
    RETIRED = "retired"
    DELETED = "deleted"


class CertificateStatus(StrEnum):
    """Computed when it is asked for; a revoked certificate stays revoked when it has expired."""

    VALID = "valid"
    REVOKED = "revoked"
    EXPIRED = "expired"


class NameConstraints(Message):
    """What names may stand in certificates below a CA (RFC 5280 section 4.2.1.10).

    A type of name without permitted subtrees is free but for the excluded ones.
    """

    permitted_dns_names: DnsSubtrees = ()
    excluded_dns_names: DnsSubtrees = ()
    permitted_ip_ranges: IpRanges = ()
    excluded_ip_ranges: IpRanges = ()
    permitted_email_domains: DnsSubtrees = ()
    excluded_email_domains: DnsSubtrees = ()


class CaView(Message):
    """A certificate authority as its users see it. `path_length` None sets no limit."""

    id: Id
    slug: str
    name: str
    description: str | None
    subject_dn: str
    key_type: KeyType
    key_size: int
    valid_days: int
    state: CaState
    certificate_pem: str
    fingerprint: Sha256Hex
    serial_hex: SerialHex
    not_before: datetime
    not_after: datetime
    organization_id: int | None
    created_by_user_id: int | None
    parent_ca_id: int | None
    path_length: int | None
    allow_leaf_certs: bool
    crl_base_url: str | None
    is_root: bool
    name_constraints: NameConstraints | None
    created_at: datetime
    updated_at: datetime


class CaWithKey(Message):
    """`private_key_pem` is PKCS #8 in the clear; None where the key never leaves its token."""

    ca: CaView
    private_key_pem: str | None = Field(repr=False)


class CaList(Message):
    cas: tuple[CaView, ...]


class Chain(Message):
    """Certificates in PEM, the first one asked for, the root last."""

    certificates_pem: tuple[str, ...]


class CertificateView(Message):
    """A certificate as its users see it. `issuer_id` is the CA that signed it."""

    id: Id
    common_name: str
    subject_dn: str
    subject_alternative_names: tuple[str, ...]
    certificate_type: CertificateKind
    key_type: KeyType
    key_size: int
    valid_days: int
    status: CertificateStatus
    certificate_pem: str
    fingerprint: Sha256Hex
    serial_hex: SerialHex
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None
    revocation_reason: RevocationReason | None
    revocation_detail: str | None
    issuer_id: Id
    organization_id: int | None
    created_by_user_id: int | None
    created_at: datetime
    updated_at: datetime


class CertificateWithKey(Message):
    """`private_key_pem` is PKCS #8 in the clear; None where the platform has no key of it."""

    certificate: CertificateView
    private_key_pem: str | None = Field(repr=False)


class CertificateList(Message):
    certificates: tuple[CertificateView, ...]


class Grant(Message):
    ca_id: Id
    user_id: Id
    capabilities: tuple[Capability, ...]
    created_at: datetime
    updated_at: datetime


class GrantList(Message):
    grants: tuple[Grant, ...]


# --- Certificate authorities ---------------------------------------------------------------------


class CaCommand(Command[ReplyT], Generic[ReplyT]):
    """About one CA. Raises `NOT_FOUND` and `FORBIDDEN`."""

    actor: Principal
    ca_id: Id

    def audit_object(self) -> tuple[str, str]:
        return "ca", str(self.ca_id)


class CreateCa(Command[CaWithKey]):
    """Make a root, or an intermediate below `parent_ca_id`.

    Raises `INVALID_REQUEST` for what cannot be a CA, `NOT_FOUND` for the parent, `FORBIDDEN`,
    `CONFLICT` for a parent that is not in use, `AGAINST_POLICY` for what it has no room for.
    """

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca", "create")
    REPLY: ClassVar[type[Message]] = CaWithKey
    ACTION: ClassVar[str | None] = "ca_create"

    actor: Principal
    name: OneLine
    description: Text | None = None
    subject_dn: str = Field(min_length=1, max_length=2048)
    key_type: KeyType = KeyType.RSA
    key_size: int | None = Field(default=None, ge=1, le=MOST_KEY_BITS)
    valid_days: int = Field(default=CA_VALID_DAYS, ge=1, le=MOST_VALID_DAYS)
    parent_ca_id: Id | None = None
    path_length: int | None = Field(default=None, ge=0, le=MOST_PATH_LENGTH)
    allow_leaf_certs: bool | None = None
    """None: true until an intermediate is made below it."""
    crl_base_url: CrlBaseUrl | None = None
    name_constraints: NameConstraints | None = None

    def audit_object(self) -> tuple[str, str]:
        return "ca", self.name


class ListCas(Command[CaList]):
    """Those that the actor may see, by id."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca", "list")
    REPLY: ClassVar[type[Message]] = CaList

    actor: Principal
    skip: int = Field(default=0, ge=0, lt=2**31)
    limit: int = Field(default=CA_PAGE, ge=1, le=CA_PAGE)


class GetCa(CaCommand[CaView]):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca", "get")
    REPLY: ClassVar[type[Message]] = CaView


class GetCaPrivateKey(CaCommand[CaWithKey]):
    """Raises `CONFLICT` where the key does not leave its token, or is the platform's own."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca", "export_private_key")
    REPLY: ClassVar[type[Message]] = CaWithKey
    ACTION: ClassVar[str | None] = "ca_export_private_key"


class GetCaChain(CaCommand[CaList]):
    """The CA itself first, the root last."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca", "chain")
    REPLY: ClassVar[type[Message]] = CaList


class ListCaChildren(CaCommand[CaList]):
    """The CAs directly below it, by id."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca", "children")
    REPLY: ClassVar[type[Message]] = CaList

    skip: int = Field(default=0, ge=0, lt=2**31)
    limit: int = Field(default=CA_PAGE, ge=1, le=CA_PAGE)


class DeleteCa(CaCommand[Done]):
    """Take a CA out of use and out of sight. Raises `CONFLICT` while it has children."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca", "delete")
    REPLY: ClassVar[type[Message]] = Done
    ACTION: ClassVar[str | None] = "ca_delete"


class RetireCa(CaCommand[CaView]):
    """Let a CA sign nothing new; what it signed stays verifiable and revocable."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca", "retire")
    REPLY: ClassVar[type[Message]] = CaView
    ACTION: ClassVar[str | None] = "ca_retire"


class RotateCa(CaCommand[CaView]):
    """Make a CA of the same name with a new key in its place, and retire the old one."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca", "rotate")
    REPLY: ClassVar[type[Message]] = CaView
    ACTION: ClassVar[str | None] = "ca_rotate"


class ListGrants(CaCommand[GrantList]):
    """By user."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca_grant", "list")
    REPLY: ClassVar[type[Message]] = GrantList

    skip: int = Field(default=0, ge=0, lt=2**31)
    limit: int = Field(default=100, ge=1, le=LARGEST_PAGE)


class PutGrant(CaCommand[Grant]):
    """Give a user exactly these capabilities on a CA.

    `user_organization_id` is what the registry says of the user, None for nobody's id too. Raises
    `NOT_FOUND` for who is not in the CA's organisation, `CONFLICT` for a CA of the platform.
    """

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca_grant", "put")
    REPLY: ClassVar[type[Message]] = Grant
    ACTION: ClassVar[str | None] = "ca_grant_put"

    user_id: Id
    user_organization_id: int | None
    capabilities: tuple[Capability, ...] = Field(max_length=len(Capability))


class DeleteGrant(CaCommand[Done]):
    """Raises `NOT_FOUND` where there is none."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca_grant", "delete")
    REPLY: ClassVar[type[Message]] = Done
    ACTION: ClassVar[str | None] = "ca_grant_delete"

    user_id: Id


# --- Certificates --------------------------------------------------------------------------------


class SubjectNames(Message):
    """Whom a certificate is to name; None where it is to be derived."""

    common_name: str | None = Field(default=None, max_length=255)
    subject_dn: str | None = Field(default=None, max_length=2048)
    san_dns_names: tuple[str, ...] | None = Field(default=None, max_length=MOST_NAMES)
    san_ip_addresses: tuple[str, ...] | None = Field(default=None, max_length=MOST_NAMES)
    san_email_addresses: tuple[str, ...] | None = Field(default=None, max_length=MOST_NAMES)


class CreateCertificate(Command[CertificateWithKey]):
    """Make a key, unless there is to be none in store, and a certificate of it.

    Raises `INVALID_REQUEST`, `NOT_FOUND`, `FORBIDDEN`, `CONFLICT` for a CA that signs no leaves or
    none any more, `CA_CANNOT_SIGN`.
    """

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "certificate", "create")
    REPLY: ClassVar[type[Message]] = CertificateWithKey
    ACTION: ClassVar[str | None] = "cert_create"

    actor: Principal
    ca_id: Id
    names: SubjectNames
    certificate_type: CertificateKind
    key_type: KeyType = KeyType.RSA
    key_size: int | None = None
    valid_days: int = Field(default=365, ge=1, le=36_500)
    include_private_key: bool = True

    def audit_object(self) -> tuple[str, str]:
        return "ca", str(self.ca_id)


class SignCsr(Command[CertificateView]):
    """Sign a CSR, the hot path. `names` go before what the CSR says; raises as `CreateCertificate`.

    `ca_name` is looked up in the actor's organisation, by a superuser everywhere; `CONFLICT` where
    it names several.
    """

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "csr", "sign")
    REPLY: ClassVar[type[Message]] = CertificateView
    ACTION: ClassVar[str | None] = "cert_create"

    actor: Principal
    csr_pem: str = Field(max_length=16_384)
    certificate_type: CertificateKind
    ca_id: Id | None = None
    ca_name: str | None = Field(default=None, max_length=255)
    names: SubjectNames = SubjectNames()
    valid_days: int = Field(default=365, ge=1, le=36_500)

    def audit_object(self) -> tuple[str, str]:
        return "ca", str(self.ca_id or self.ca_name)


class CertificateCommand(Command[ReplyT], Generic[ReplyT]):
    """About one certificate. Raises `NOT_FOUND` and `FORBIDDEN`."""

    actor: Principal
    certificate_id: Id

    def audit_object(self) -> tuple[str, str]:
        return "certificate", str(self.certificate_id)


class ListCertificates(Command[CertificateList]):
    """Those that the actor may see, by id."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "certificate", "list")
    REPLY: ClassVar[type[Message]] = CertificateList

    actor: Principal
    ca_id: Id | None = None
    skip: int = Field(default=0, ge=0, lt=2**31)
    limit: int = Field(default=CERTIFICATE_PAGE, ge=1, le=CERTIFICATE_PAGE)


class GetCertificate(CertificateCommand[CertificateView]):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "certificate", "get")
    REPLY: ClassVar[type[Message]] = CertificateView


class GetCertificatePrivateKey(CertificateCommand[CertificateWithKey]):
    """Raises `NOT_FOUND` where the platform has no key of it."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "certificate", "export_private_key")
    REPLY: ClassVar[type[Message]] = CertificateWithKey
    ACTION: ClassVar[str | None] = "cert_export_private_key"


class GetCertificateChain(CertificateCommand[Chain]):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "certificate", "chain")
    REPLY: ClassVar[type[Message]] = Chain


class RevokeCertificate(CertificateCommand[CertificateView]):
    """Raises `ALREADY_REVOKED`, and `OWNED_ELSEWHERE` with the service that answers for it."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "certificate", "revoke")
    REPLY: ClassVar[type[Message]] = CertificateView
    ACTION: ClassVar[str | None] = "cert_revoke"

    reason: str | None = Field(default=None, max_length=1024)


class CertificatePage(Message):
    certificates: tuple[CertificateView, ...]
    next_cursor: str | None


class SearchCertificates(Command[CertificatePage]):
    """Those that the actor may see and that meet every condition.

    By end where the search is about the end: the soonest first, of expired ones the latest; else
    the newest first. A page may be short, or empty, though there is a next one.
    """

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "certificate", "search")
    REPLY: ClassVar[type[Message]] = CertificatePage

    actor: Principal
    common_name: str | None = Field(default=None, max_length=255)
    """Whole, or its beginning with `*` at the end; letters' case does not matter."""
    san: str | None = Field(default=None, max_length=1024)
    """One subjectAltName, whole: a DNS name, an IP or mail address, a URI."""
    serial_hex: SerialHex | None = None
    fingerprint: Sha256Hex | None = None
    status: CertificateStatus | None = None
    certificate_type: CertificateKind | None = None
    issuer_id: Id | None = None
    organization_id: Id | None = None
    expires_after: datetime | None = None
    expires_before: datetime | None = None
    cursor: str | None = Field(default=None, max_length=512)
    limit: int = Field(default=100, ge=1, le=PAGE_LIMIT)


# --- What is public ------------------------------------------------------------------------------

Slug = Annotated[str, Field(max_length=300)]
"""How URLs name a CA: `<slugified name>-<id>`, of which both halves count."""


class PublicCommand(Command[ReplyT], Generic[ReplyT]):
    """Anybody asks, without any credential. Raises `NOT_FOUND` for a slug that is no CA's."""

    PUBLIC: ClassVar[bool] = True

    slug: Slug


class CaCertificate(Message):
    certificate_pem: str


class GetCaCertificate(PublicCommand[CaCertificate]):
    """Of a CA in any state."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca_certificate", "get")
    REPLY: ClassVar[type[Message]] = CaCertificate


class Crl(Message):
    """A piece of a CRL in DER, beginning at the offset that was asked for; None: no news.

    `size` is that of the whole, in octets.
    """

    number: int
    this_update: datetime
    next_update: datetime
    size: int
    piece: bytes | None


class GetCrl(PublicCommand[Crl]):
    """The CRL that was made last, by slug, piece by piece.

    `known_number` is the one that the caller has: where it is still the last, it is not sent again.
    Raises `CONFLICT` where the number asked for is not the last any more, and `UNAVAILABLE` where
    there is none yet and the CA's key is away.
    """

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "crl", "get")
    REPLY: ClassVar[type[Message]] = Crl
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.GATEWAY, CLI})

    known_number: int | None = None
    number: int | None = None
    offset: int = Field(default=0, ge=0)


class OcspAnswer(Message):
    """An OCSPResponse in DER (RFC 6960); `next_update` None where it is not to be kept."""

    response: bytes
    this_update: datetime | None = None
    next_update: datetime | None = None


class AnswerOcsp(PublicCommand[OcspAnswer]):
    """Answer an OCSPRequest in DER about certificates of one CA; bad ones get an error response."""

    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ocsp", "answer")
    REPLY: ClassVar[type[Message]] = OcspAnswer

    request: bytes = Field(max_length=OCSP_REQUEST_BYTES)
