"""The instance dialect: running instances with certificates of their own, and who administers them.

The order of checks: the schema here (422), everything else in the instance service.
"""

from http import HTTPStatus
from typing import Annotated, ClassVar, Final
from uuid import UUID

from fastapi import APIRouter, Query

from contracts.errors import ErrorCode
from contracts.instance import (
    BootstrapCertificate,
    CreateBootstrapToken,
    CreateInstance,
    GetInstance,
    ListInstanceCertificates,
    ListInstances,
    PutSecrets,
    RefreshSecrets,
    RenewCertificate,
    RevokeInstanceCertificate,
    SetInstanceStatus,
)
from contracts.messages import PAGE_LIMIT
from contracts.principal import CredentialKind
from services.gateway.dialects.dialect import Dialect
from services.gateway.dialects.instance_models import (
    BootstrapRequest,
    Certificate,
    CertificateList,
    CreatedInstance,
    InstanceList,
    InstanceView,
    NewBootstrapToken,
    NewInstance,
    NewSecrets,
    RefreshedSecrets,
    RefreshRequest,
    RenewedCertificate,
    RenewRequest,
    Revocation,
    Revoked,
    StatusChange,
)
from services.gateway.exchange import Current
from services.gateway.refusals import REFUSALS, Refusal, Refusals, described
from services.gateway.routes import BEARER, CERTIFICATE, PUBLIC, DialectRoute, DirectRoute
from services.gateway.shapes import Detail, FastapiShape, Issues
from shared.secrets import token_hash

PREFIX: Final = "/internal/v1/instances"
PAGE_DEFAULT: Final = 100
ADMINISTRATORS: Final = (CredentialKind.BEARER, CredentialKind.CERTIFICATE)

Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT)]
Cursor = Annotated[str | None, Query(max_length=512)]


# --- What the instances call -----------------------------------------------------------------

_NOT_THEM: Final = Refusal(
    HTTPStatus.UNAUTHORIZED, "Invalid mTLS cert or identity verification failed"
)
_NOT_THERE: Final = Refusal(HTTPStatus.NOT_FOUND, "Instance not found")


class CallRoute(DirectRoute):
    """A call of an instance: which check it failed is told to the audit log, not to the caller."""

    security = (CERTIFICATE,)
    refusals: ClassVar[Refusals] = {
        **REFUSALS,
        ErrorCode.CREDENTIAL_MISSING: _NOT_THEM,
        ErrorCode.CREDENTIAL_REFUSED: _NOT_THEM,
        ErrorCode.IDENTITY_MISMATCH: _NOT_THEM,
        ErrorCode.TOKEN_UNKNOWN: _NOT_THEM,
        ErrorCode.TOKEN_USED: _NOT_THEM,
        ErrorCode.TOKEN_EXPIRED: _NOT_THEM,
        ErrorCode.NOT_FOUND: _NOT_THERE,
    }


_CALL_ERRORS: Final = (
    ErrorCode.CREDENTIAL_REFUSED,
    ErrorCode.NOT_FOUND,
    ErrorCode.INSTANCE_NOT_RUNNING,
    ErrorCode.RATE_LIMITED,
)
_CERTIFICATE_ERRORS: Final = (*_CALL_ERRORS, ErrorCode.INVALID_CSR, ErrorCode.CA_CANNOT_SIGN)

calls = APIRouter(
    prefix=PREFIX,
    route_class=CallRoute,
    tags=["instances"],
    responses={int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues}},
)


@calls.post(
    "/{instance_id}/cert/renew",
    responses=described(CallRoute.refusals, _CERTIFICATE_ERRORS, Detail),
)
async def renew_certificate(
    instance_id: UUID, body: RenewRequest, exchange: Current
) -> RenewedCertificate:
    """Renew the client certificate that the call is made with, once an hour, for 24 hours."""
    credential = await exchange.certificate()
    signed = await exchange.request(
        RenewCertificate(
            call=exchange.call(credential.sha256 if credential else None),
            instance_id=instance_id,
            credential=credential,
            csr_pem=body.csr_pem,
            wg_public_key=body.wg_public_key,
        )
    )
    return RenewedCertificate.of(signed)


@calls.post(
    "/{instance_id}/secrets/refresh",
    responses=described(CallRoute.refusals, _CALL_ERRORS, Detail),
)
async def refresh_secrets(
    instance_id: UUID, body: RefreshRequest, exchange: Current
) -> RefreshedSecrets:
    """Fetch the instance's current secrets."""
    credential = await exchange.certificate()
    found = await exchange.request(
        RefreshSecrets(
            call=exchange.call(credential.sha256 if credential else None),
            instance_id=instance_id,
            credential=credential,
            vpn_ip=body.vpn_ip,
            wg_public_key=body.wg_public_key,
        )
    )
    return RefreshedSecrets.model_construct(agent_secrets=found.agent_secrets)


@calls.post(
    "/{instance_id}/cert/bootstrap",
    openapi_extra=PUBLIC,
    responses=described(CallRoute.refusals, _CERTIFICATE_ERRORS, Detail),
)
async def bootstrap_certificate(
    instance_id: UUID, body: BootstrapRequest, exchange: Current
) -> RenewedCertificate:
    """Exchange a bootstrap token for the first certificate."""
    signed = await exchange.request(
        BootstrapCertificate(
            call=exchange.call(token_hash(body.token)),
            instance_id=instance_id,
            token=body.token,
            csr_pem=body.csr_pem,
            wg_public_key=body.wg_public_key,
        )
    )
    return RenewedCertificate.of(signed)


# --- What their administrators call ------------------------------------------------------------


class AdministrationRoute(DialectRoute):
    """For the administrator's certificate, or a superuser's token."""

    security = (CERTIFICATE, BEARER)
    refusals: ClassVar[Refusals] = {
        **REFUSALS,
        ErrorCode.NOT_FOUND: Refusal(HTTPStatus.NOT_FOUND, "Instance not found", explains=True),
    }


_ADMINISTRATION_ERRORS: Final = (
    ErrorCode.CREDENTIAL_MISSING,
    ErrorCode.CREDENTIAL_REFUSED,
    ErrorCode.FORBIDDEN,
)

administration = APIRouter(
    prefix=PREFIX,
    route_class=AdministrationRoute,
    tags=["instances"],
    responses={
        int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues},
        **described(AdministrationRoute.refusals, _ADMINISTRATION_ERRORS, Detail),
    },
)
_NOT_FOUND: Final = described(AdministrationRoute.refusals, [ErrorCode.NOT_FOUND], Detail)
_CONFLICT: Final = described(
    AdministrationRoute.refusals, [ErrorCode.NOT_FOUND, ErrorCode.INVALID_TRANSITION], Detail
)


@administration.post("", status_code=HTTPStatus.CREATED)
async def create_instance(body: NewInstance, exchange: Current) -> CreatedInstance:
    """Register an instance. The bootstrap token is shown once."""
    principal, call = await exchange.caller(*ADMINISTRATORS)
    created = await exchange.request(
        CreateInstance(
            call=call,
            principal=principal,
            name=body.name,
            wg_public_key=body.wg_public_key,
            vpn_ip=body.vpn_ip,
            agent_secrets=body.agent_secrets,
        )
    )
    return CreatedInstance(
        **created.instance.model_dump(),
        bootstrap_token=created.bootstrap.token,
        bootstrap_expires_at=created.bootstrap.expires_at,
    )


@administration.get("")
async def list_instances(
    exchange: Current, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None
) -> InstanceList:
    """List instances, page by page."""
    principal, call = await exchange.caller(*ADMINISTRATORS)
    page = await exchange.request(
        ListInstances(call=call, principal=principal, limit=limit, cursor=cursor)
    )
    return InstanceList(
        instances=[InstanceView.of(instance) for instance in page.instances],
        next_cursor=page.next_cursor,
    )


@administration.get("/{instance_id}", responses=_NOT_FOUND)
async def get_instance(instance_id: UUID, exchange: Current) -> InstanceView:
    """Show an instance."""
    principal, call = await exchange.caller(*ADMINISTRATORS)
    return InstanceView.of(
        await exchange.request(GetInstance(call=call, principal=principal, instance_id=instance_id))
    )


@administration.patch("/{instance_id}", responses=_CONFLICT)
async def set_status(instance_id: UUID, body: StatusChange, exchange: Current) -> InstanceView:
    """Move an instance along pending → running ⇄ stopped, any → terminated."""
    principal, call = await exchange.caller(*ADMINISTRATORS)
    return InstanceView.of(
        await exchange.request(
            SetInstanceStatus(
                call=call, principal=principal, instance_id=instance_id, status=body.status
            )
        )
    )


@administration.put(
    "/{instance_id}/secrets", status_code=HTTPStatus.NO_CONTENT, responses=_NOT_FOUND
)
async def put_secrets(instance_id: UUID, body: NewSecrets, exchange: Current) -> None:
    """Replace the secrets of an instance."""
    principal, call = await exchange.caller(*ADMINISTRATORS)
    await exchange.request(
        PutSecrets(
            call=call,
            principal=principal,
            instance_id=instance_id,
            agent_secrets=body.agent_secrets,
        )
    )


@administration.post(
    "/{instance_id}/bootstrap-token", status_code=HTTPStatus.CREATED, responses=_CONFLICT
)
async def create_bootstrap_token(instance_id: UUID, exchange: Current) -> NewBootstrapToken:
    """Make a new bootstrap token. It is shown once."""
    principal, call = await exchange.caller(*ADMINISTRATORS)
    return NewBootstrapToken.of(
        await exchange.request(
            CreateBootstrapToken(call=call, principal=principal, instance_id=instance_id)
        )
    )


@administration.get("/{instance_id}/certificates", responses=_NOT_FOUND)
async def list_certificates(
    instance_id: UUID, exchange: Current, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None
) -> CertificateList:
    """List the certificates of an instance, page by page."""
    principal, call = await exchange.caller(*ADMINISTRATORS)
    page = await exchange.request(
        ListInstanceCertificates(
            call=call,
            principal=principal,
            instance_id=instance_id,
            limit=limit,
            cursor=cursor,
        )
    )
    return CertificateList(
        certificates=[Certificate.of(row) for row in page.certificates],
        next_cursor=page.next_cursor,
    )


@administration.post("/{instance_id}/cert/revoke", responses=_NOT_FOUND)
async def revoke_certificate(
    instance_id: UUID, exchange: Current, body: Revocation | None = None
) -> Revoked:
    """Revoke the current certificate of an instance."""
    principal, call = await exchange.caller(*ADMINISTRATORS)
    revoked = await exchange.request(
        RevokeInstanceCertificate(
            call=call,
            principal=principal,
            instance_id=instance_id,
            reason=body.reason if body else None,
        )
    )
    return Revoked(serial=revoked.serial_hex, revoked_at=revoked.revoked_at)


INSTANCE: Final = Dialect(
    "instance", (PREFIX,), FastapiShape(), (*calls.routes, *administration.routes)
)
