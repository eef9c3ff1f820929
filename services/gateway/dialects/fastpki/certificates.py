"""`/api/v1/certificates`: certificates that users' CAs sign."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from fastapi import APIRouter, Query
from pydantic import Field, model_validator

from contracts.certificates import CertificateKind
from contracts.errors import ErrorCode
from contracts.pki import (
    CERTIFICATE_PAGE,
    LARGEST_PAGE,
    MOST_NAMES,
    CertificateView,
    CertificateWithKey,
    CreateCertificate,
    GetCertificate,
    GetCertificatePrivateKey,
    KeyType,
    ListCertificates,
    RevokeCertificate,
    SignCsr,
    SubjectNames,
)
from contracts.principal import CredentialKind
from services.gateway.dialects.dialect import Body
from services.gateway.dialects.fastpki.parameters import NO_NUL, Id, Skip
from services.gateway.exchange import Caller, Current, Exchange
from services.gateway.refusals import REFUSALS, Refusal, Refusals, described
from services.gateway.routes import BEARER, DialectRoute, DirectRoute
from services.gateway.shapes import Detail, Issues
from shared.x509 import CSR_LIMIT_BYTES

NAME_CHARACTERS: Final = 255

CertificateType = Literal["server", "client", "ca", "dual_purpose"]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS)]
CommonName = Annotated[str, Field(min_length=1, max_length=64)]
"""RFC 5280 appendix A.1, ub-common-name."""
SubjectDn = Annotated[str, Field(min_length=1, max_length=2048)]
Names = Annotated[list[Name], Field(max_length=MOST_NAMES)]
ValidDays = Annotated[int, Field(ge=1, le=36_500)]
CaId = Annotated[int, Query(ge=1, lt=2**63)]
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE)]


class AlternativeNames(Body):
    san_dns_names: Names | None = None
    san_ip_addresses: Names | None = None
    san_email_addresses: Names | None = None

    def names(self, common_name: str | None, subject_dn: str | None) -> SubjectNames:
        """Return whom the certificate is to name."""
        return SubjectNames(
            common_name=common_name,
            subject_dn=subject_dn,
            san_dns_names=_tuple(self.san_dns_names),
            san_ip_addresses=_tuple(self.san_ip_addresses),
            san_email_addresses=_tuple(self.san_email_addresses),
        )


def _tuple(names: list[str] | None) -> tuple[str, ...] | None:
    return tuple(names) if names is not None else None


class NewCertificate(AlternativeNames):
    """`key_size` is in bits; without it an RSA key has 2048, an EC key 256."""

    common_name: CommonName
    subject_dn: SubjectDn
    certificate_type: CertificateType
    key_type: KeyType = KeyType.RSA
    key_size: Annotated[int | None, Field(ge=256, le=8192)] = None
    valid_days: ValidDays = 365
    include_private_key: bool = True


class SigningRequest(AlternativeNames):
    """What is given beside the CSR goes before what the CSR says."""

    csr: Annotated[str, Field(min_length=1, max_length=CSR_LIMIT_BYTES)]
    certificate_type: CertificateType
    ca_id: Annotated[int | None, Field(ge=1, lt=2**63)] = None
    ca_name: Annotated[
        str | None, Field(min_length=1, max_length=NAME_CHARACTERS, pattern=NO_NUL)
    ] = None
    common_name: CommonName | None = None
    subject_dn: SubjectDn | None = None
    valid_days: ValidDays = 365

    @model_validator(mode="after")
    def _name_one_ca(self) -> Self:
        if (self.ca_id is None) == (self.ca_name is None):
            raise ValueError("either ca_id or ca_name is needed")
        return self


class Certificate(Body):
    """A certificate; `certificate` is PEM, `serial_number` lower-case hex."""

    id: int
    common_name: str
    subject_dn: str
    certificate_type: CertificateKind
    key_type: KeyType
    key_size: int
    valid_days: int
    status: Literal["valid", "revoked", "expired"]
    certificate: str
    serial_number: str
    fingerprint: str
    subject_alternative_names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None
    revocation_reason: str | None
    """Of RFC 5280; `revocation_detail` is what was written."""
    revocation_detail: str | None
    created_at: datetime
    updated_at: datetime
    issuer_id: int
    organization_id: int | None
    created_by_user_id: int | None

    @classmethod
    def of(cls, view: CertificateView) -> "Certificate":
        """Return the certificate as this dialect has it."""
        return cls.model_construct(**_members(view))


class CertificateAndKey(Certificate):
    """With the private key in PEM (PKCS #8), where there is one."""

    private_key: str | None = Field(repr=False)

    @classmethod
    def with_key(cls, found: CertificateWithKey) -> "CertificateAndKey":
        """Return certificate and key."""
        return cls.model_construct(**_members(found.certificate), private_key=found.private_key_pem)


def _members(view: CertificateView) -> dict[str, Any]:
    members = dict(view.__dict__)
    members["certificate"] = members.pop("certificate_pem")
    members["serial_number"] = members.pop("serial_hex")
    return members


class Revocation(Body):
    """`reason` is text; where it names a reason of RFC 5280, the CRL says so."""

    reason: Annotated[str | None, Field(max_length=1024, pattern=NO_NUL)] = None


class CertificateRoute(DialectRoute):
    security = (BEARER,)
    refusals: ClassVar[Refusals] = {
        **REFUSALS,
        ErrorCode.INVALID_CSR: Refusal(HTTPStatus.BAD_REQUEST, "Invalid CSR: $detail"),
        ErrorCode.ALREADY_REVOKED: Refusal(HTTPStatus.CONFLICT, "Certificate is already revoked"),
    }


class SigningRoute(CertificateRoute, DirectRoute):
    """The hot path."""


_ERRORS: Final = (
    ErrorCode.CREDENTIAL_MISSING,
    ErrorCode.CREDENTIAL_REFUSED,
    ErrorCode.FORBIDDEN,
)
_NOT_FOUND: Final = described(CertificateRoute.refusals, [ErrorCode.NOT_FOUND], Detail)
_ISSUING: Final = (
    ErrorCode.AGAINST_POLICY,
    ErrorCode.NOT_FOUND,
    ErrorCode.CONFLICT,
    ErrorCode.CA_CANNOT_SIGN,
)
_EVERY: Final[dict[int | str, dict[str, Any]]] = {
    int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues},
    **described(CertificateRoute.refusals, _ERRORS, Detail),
}
PREFIX: Final = "/api/v1/certificates"
signing = APIRouter(
    prefix=PREFIX, route_class=SigningRoute, tags=["certificates"], responses=_EVERY
)
router = APIRouter(
    prefix=PREFIX, route_class=CertificateRoute, tags=["certificates"], responses=_EVERY
)


@signing.post("/sign-csr/", include_in_schema=False, status_code=HTTPStatus.CREATED)
@signing.post(
    "/sign-csr",
    status_code=HTTPStatus.CREATED,
    responses=described(CertificateRoute.refusals, (*_ISSUING, ErrorCode.INVALID_CSR), Detail),
)
async def sign_csr(body: SigningRequest, exchange: Current) -> Certificate:
    """Sign a CSR: its public key, its subject and its alternative names are taken, nothing else."""
    actor, call = await _user(exchange)
    return Certificate.of(
        await exchange.request(
            SignCsr(
                call=call,
                actor=actor,
                csr_pem=body.csr,
                certificate_type=CertificateKind(body.certificate_type),
                ca_id=body.ca_id,
                ca_name=body.ca_name,
                names=body.names(body.common_name, body.subject_dn),
                valid_days=body.valid_days,
            )
        )
    )


@router.post("", include_in_schema=False, status_code=HTTPStatus.CREATED)
@router.post(
    "/",
    status_code=HTTPStatus.CREATED,
    responses=described(CertificateRoute.refusals, _ISSUING, Detail),
)
async def create_certificate(
    ca_id: CaId, body: NewCertificate, exchange: Current
) -> CertificateAndKey:
    """Make a private key and a certificate of it.

    Without `include_private_key` the key is neither kept nor shown.
    """
    actor, call = await _user(exchange)
    return CertificateAndKey.with_key(
        await exchange.request(
            CreateCertificate(
                call=call,
                actor=actor,
                ca_id=ca_id,
                names=body.names(body.common_name, body.subject_dn),
                certificate_type=CertificateKind(body.certificate_type),
                key_type=body.key_type,
                key_size=body.key_size,
                valid_days=body.valid_days,
                include_private_key=body.include_private_key,
            )
        )
    )


@router.get("", include_in_schema=False)
@router.get("/")
async def list_certificates(
    exchange: Current, ca_id: CaId | None = None, skip: Skip = 0, limit: Limit = 100
) -> list[Certificate]:
    """List the certificates that the caller may see, by id; those of CAs are not among them."""
    actor, call = await _user(exchange)
    found: list[Certificate] = []
    while len(found) < limit:
        size = min(limit - len(found), CERTIFICATE_PAGE)
        page = await exchange.request(
            ListCertificates(
                call=call, actor=actor, ca_id=ca_id, skip=skip + len(found), limit=size
            )
        )
        found += map(Certificate.of, page.certificates)
        if len(page.certificates) < size:
            break
    return found


@router.get("/{certificate_id}/", include_in_schema=False)
@router.get("/{certificate_id}", responses=_NOT_FOUND)
async def get_certificate(certificate_id: Id, exchange: Current) -> Certificate:
    """Show a certificate."""
    actor, call = await _user(exchange)
    return Certificate.of(
        await exchange.request(
            GetCertificate(call=call, actor=actor, certificate_id=certificate_id)
        )
    )


@router.get("/{certificate_id}/private-key/", include_in_schema=False)
@router.get("/{certificate_id}/private-key", responses=_NOT_FOUND)
async def get_private_key(certificate_id: Id, exchange: Current) -> CertificateAndKey:
    """Show a certificate with its private key."""
    actor, call = await _user(exchange)
    return CertificateAndKey.with_key(
        await exchange.request(
            GetCertificatePrivateKey(call=call, actor=actor, certificate_id=certificate_id)
        )
    )


@router.post("/{certificate_id}/revoke/", include_in_schema=False)
@router.post(
    "/{certificate_id}/revoke",
    responses=described(
        CertificateRoute.refusals,
        (ErrorCode.NOT_FOUND, ErrorCode.ALREADY_REVOKED, ErrorCode.OWNED_ELSEWHERE),
        Detail,
    ),
)
async def revoke_certificate(
    certificate_id: Id, exchange: Current, body: Revocation | None = None
) -> Certificate:
    """Revoke a certificate: at once, and for good."""
    actor, call = await _user(exchange)
    return Certificate.of(
        await exchange.request(
            RevokeCertificate(
                call=call,
                actor=actor,
                certificate_id=certificate_id,
                reason=body.reason if body else None,
            )
        )
    )


async def _user(exchange: Exchange) -> Caller:
    return await exchange.caller(CredentialKind.BEARER)
