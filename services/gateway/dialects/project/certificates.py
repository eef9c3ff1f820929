"""`/api/v1/projects/{id}/certificate`: the certificate that a project has, and uploads."""

from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import Query, Response
from pydantic import Field

from contracts.acme import (
    PEM_CHARACTERS,
    CertificateMaterial,
    CertificateStatus,
    CertificateType,
    DownloadCertificate,
    GetPrivateKey,
    GetPublicCertificate,
    ListOrders,
    Order,
    OrderKind,
    OrderState,
    PublicCertificate,
    RemoveCertificate,
    RevokePublicCertificate,
    UploadCertificate,
    ValidateCertificate,
    Validation,
)
from contracts.errors import CertwireError, ErrorCode
from services.gateway.dialects.pem_file import FILE, PemFile
from services.gateway.dialects.project.forms import (
    COMMON,
    Answer,
    Id,
    Moment,
    Sent,
    Success,
    caller_of,
    group,
)
from services.gateway.dialects.project.projects import PREFIX
from services.gateway.exchange import Current

PATH: Final = f"{PREFIX}/{{id}}/certificate"
ORDERS_DEFAULT: Final = 20
MOST_ORDERS: Final = 100
WILDCARD: Final = "*."
WILDCARD_IN_FILES: Final = "_wildcard."
"""As the directories of the live layout are called."""

Pem = Annotated[str, Field(min_length=1, max_length=PEM_CHARACTERS)]


# --- What is read and written -------------------------------------------------------------------


class CertificateView(Answer):
    """The certificate of a project; `issuer` is the name of its CA."""

    domain: str
    type: CertificateType
    issued_at: Moment
    expires_at: Moment
    issuer: str
    auto_renew: bool


class StagingCertificateView(CertificateView):
    """One that nobody trusts, of a CA for tests."""

    staging: Literal[True] = True


class StatusView(Answer):
    """How the certificate of a project is, and how its renewal went last."""

    status: CertificateStatus
    domain: str
    expires_at: Moment
    days_until_expiry: int
    auto_renew: bool
    last_renew_attempt: Moment | None
    last_renew_error: str | None


class StagingStatusView(StatusView):
    staging: Literal[True] = True


class Material(Sent):
    """A certificate with its chain, in whatever order, and its private key, in PEM."""

    certificate: Pem
    private_key: Annotated[Pem, Field(repr=False)]

    def sent_on(self) -> CertificateMaterial:
        """Return what the acme service takes."""
        return CertificateMaterial(certificate=self.certificate, private_key=self.private_key)


class UploadedView(Answer):
    domain: str
    type: CertificateType
    issued_at: Moment
    expires_at: Moment
    issuer: str


class Uploaded(Answer):
    success: Literal[True] = True
    certificate: UploadedView


class Valid(Answer):
    valid: Literal[True] = True
    domain: str | None
    expires_at: Moment | None
    issuer: str
    warnings: tuple[str, ...]


class Invalid(Answer):
    valid: Literal[False] = False
    error: str


class OrderView(Answer):
    """An order; `reason` is why a failed one failed, with what the CA says of it."""

    id: UUID
    kind: OrderKind
    domain: str
    staging: bool
    state: OrderState
    created_at: Moment
    ended_at: Moment | None
    reason: str | None

    @classmethod
    def of(cls, order: Order) -> "OrderView":
        """Return an order as the dialect shows it."""
        facts = {name: getattr(order, name) for name in cls.model_fields if name != "reason"}
        error = CertwireError.from_reply(order.error) if order.error else None
        said = COMMON[error.code].say(error) if error else None
        reason = error.parameters.get("reason", said) if error else None
        return cls(**facts, reason=reason)


class OrdersView(Answer):
    orders: list[OrderView]


def view_of(certificate: PublicCertificate) -> CertificateView:
    """Return the certificate as it is read: the issuer by its common name."""
    kind = StagingCertificateView if certificate.staging else CertificateView
    return kind(
        domain=certificate.domain,
        type=certificate.type,
        issued_at=certificate.issued_at,
        expires_at=certificate.expires_at,
        issuer=certificate.issuer_common_name or certificate.issuer_organization or "",
        auto_renew=certificate.auto_renew,
    )


def organization_of(issuer: PublicCertificate | Validation) -> str:
    """Return the issuer as the answers to changes name it."""
    return issuer.issuer_organization or issuer.issuer_common_name or ""


def _status_of(certificate: PublicCertificate) -> StatusView:
    kind = StagingStatusView if certificate.staging else StatusView
    return kind(
        status=certificate.status,
        domain=certificate.domain,
        expires_at=certificate.expires_at,
        days_until_expiry=certificate.days_until_expiry,
        auto_renew=certificate.auto_renew,
        last_renew_attempt=certificate.last_renew_attempt,
        last_renew_error=certificate.last_renew_error,
    )


# --- Routes -------------------------------------------------------------------------------------

router = group(
    PATH,
    "project-certificates",
    {
        ErrorCode.NOT_FOUND: COMMON[ErrorCode.NOT_FOUND],
        ErrorCode.CONFLICT: COMMON[ErrorCode.CONFLICT],
        ErrorCode.ALREADY_REVOKED: COMMON[ErrorCode.ALREADY_REVOKED],
        ErrorCode.ORDER_FAILED: COMMON[ErrorCode.ORDER_FAILED],
        ErrorCode.CA_UNAVAILABLE: COMMON[ErrorCode.CA_UNAVAILABLE],
    },
)
uploads = group(
    PATH,
    "project-certificates",
    {
        ErrorCode.NOT_FOUND: COMMON[ErrorCode.NOT_FOUND],
        ErrorCode.CONFLICT: COMMON[ErrorCode.CONFLICT],
        ErrorCode.AGAINST_POLICY: COMMON[ErrorCode.AGAINST_POLICY],
        ErrorCode.INVALID_CERTIFICATE: COMMON[ErrorCode.INVALID_CERTIFICATE],
    },
)


@router.get("")
async def get_certificate(
    project_id: Id, exchange: Current
) -> StagingCertificateView | CertificateView | None:
    """Show the certificate of a project, null where it has none."""
    actor, call = await caller_of(exchange)
    found = await exchange.request(
        GetPublicCertificate(call=call, actor=actor, project_id=project_id)
    )
    return None if found.certificate is None else view_of(found.certificate)


@router.get("/status")
async def get_status(project_id: Id, exchange: Current) -> StagingStatusView | StatusView | None:
    """Say how the certificate of a project is, null where it has none."""
    actor, call = await caller_of(exchange)
    found = await exchange.request(
        GetPublicCertificate(call=call, actor=actor, project_id=project_id)
    )
    return None if found.certificate is None else _status_of(found.certificate)


@router.get("/download", response_class=Response, responses=FILE)
async def download_certificate(project_id: Id, exchange: Current) -> PemFile:
    """Save the certificate with its chain, the leaf first."""
    actor, call = await caller_of(exchange)
    found = await exchange.request(
        DownloadCertificate(call=call, actor=actor, project_id=project_id)
    )
    return PemFile(f"{_file_name(found.domain)}.pem", found.chain_pem)


@router.get("/private-key", response_class=Response, responses=FILE)
async def get_private_key(project_id: Id, exchange: Current) -> PemFile:
    """Save the private key; that is recorded. An API key needs `keys: read` for it."""
    actor, call = await caller_of(exchange)
    found = await exchange.request(GetPrivateKey(call=call, actor=actor, project_id=project_id))
    return PemFile(f"{_file_name(found.domain)}.key", found.private_key_pem)


@router.get("/orders")
async def list_orders(
    project_id: Id,
    exchange: Current,
    limit: Annotated[int, Query(ge=1, le=MOST_ORDERS)] = ORDERS_DEFAULT,
) -> OrdersView:
    """List the last orders of a project, the newest first."""
    actor, call = await caller_of(exchange)
    found = await exchange.request(
        ListOrders(call=call, actor=actor, project_id=project_id, limit=limit)
    )
    return OrdersView(orders=list(map(OrderView.of, found.orders)))


@router.post("/revoke")
async def revoke_certificate(project_id: Id, exchange: Current) -> Success:
    """Revoke the certificate at its CA. There is no way back."""
    exchange.wait_for_the_ca()
    actor, call = await caller_of(exchange)
    await exchange.request(RevokePublicCertificate(call=call, actor=actor, project_id=project_id))
    return Success(message="Certificate revoked")


@router.delete("")
async def remove_certificate(project_id: Id, exchange: Current) -> Success:
    """Forget the certificate and its key; it is not revoked by this."""
    actor, call = await caller_of(exchange)
    await exchange.request(RemoveCertificate(call=call, actor=actor, project_id=project_id))
    return Success(message="Certificate removed")


@uploads.post("/upload")
async def upload_certificate(project_id: Id, body: Material, exchange: Current) -> Uploaded:
    """Put a certificate of another CA in the place of the project's."""
    actor, call = await caller_of(exchange)
    certificate = await exchange.request(
        UploadCertificate(call=call, actor=actor, project_id=project_id, material=body.sent_on())
    )
    return Uploaded(
        certificate=UploadedView(
            domain=certificate.domain,
            type=certificate.type,
            issued_at=certificate.issued_at,
            expires_at=certificate.expires_at,
            issuer=organization_of(certificate),
        )
    )


@uploads.post("/validate")
async def validate_certificate(
    project_id: Id, body: Material, exchange: Current
) -> Valid | Invalid:
    """Say whether an upload would be taken, and why not."""
    actor, call = await caller_of(exchange)
    found = await exchange.request(
        ValidateCertificate(call=call, actor=actor, project_id=project_id, material=body.sent_on())
    )
    if not found.valid:
        return Invalid(error=found.error or COMMON[ErrorCode.INVALID_CERTIFICATE].text)
    return Valid(
        domain=found.domain,
        expires_at=found.expires_at,
        issuer=organization_of(found),
        warnings=found.warnings,
    )


def _file_name(domain: str) -> str:
    if domain.startswith(WILDCARD):
        return WILDCARD_IN_FILES + domain.removeprefix(WILDCARD)
    return domain
