"""`/api/v1/export`: certificates and keys as files."""

from http import HTTPStatus

from fastapi import APIRouter, Response

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import (
    GetCa,
    GetCaPrivateKey,
    GetCertificate,
    GetCertificateChain,
    GetCertificatePrivateKey,
)
from services.gateway.dialects.fastpki.cas import ABOUT_ONE, CHANGES_ONE, UserRoute, user_of
from services.gateway.dialects.fastpki.parameters import Id
from services.gateway.dialects.pem_file import FILE, PemFile
from services.gateway.exchange import Current
from services.gateway.shapes import Issues
from shared.x509 import bundle

router = APIRouter(
    prefix="/api/v1/export",
    route_class=UserRoute,
    tags=["export"],
    default_response_class=Response,
    responses={int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues}},
)


@router.get("/ca/{ca_id}/certificate/", include_in_schema=False)
@router.get("/ca/{ca_id}/certificate", responses=ABOUT_ONE | FILE)
async def export_ca_certificate(ca_id: Id, exchange: Current) -> PemFile:
    """Save the certificate of a CA."""
    actor, call = await user_of(exchange)
    ca = await exchange.request(GetCa(call=call, actor=actor, ca_id=ca_id))
    return PemFile(f"ca_{ca_id}_certificate.pem", ca.certificate_pem)


@router.get("/ca/{ca_id}/private-key/", include_in_schema=False)
@router.get("/ca/{ca_id}/private-key", responses=CHANGES_ONE | FILE)
async def export_ca_private_key(ca_id: Id, exchange: Current) -> PemFile:
    """Save the private key of a CA; that is recorded."""
    actor, call = await user_of(exchange)
    found = await exchange.request(GetCaPrivateKey(call=call, actor=actor, ca_id=ca_id))
    return PemFile(f"ca_{ca_id}_private_key.pem", _key(found.private_key_pem))


@router.get("/certificate/{certificate_id}/", include_in_schema=False)
@router.get("/certificate/{certificate_id}", responses=ABOUT_ONE | FILE)
async def export_certificate(certificate_id: Id, exchange: Current) -> PemFile:
    """Save a certificate."""
    actor, call = await user_of(exchange)
    found = await exchange.request(
        GetCertificate(call=call, actor=actor, certificate_id=certificate_id)
    )
    return PemFile(f"certificate_{certificate_id}.pem", found.certificate_pem)


@router.get("/certificate/{certificate_id}/private-key/", include_in_schema=False)
@router.get("/certificate/{certificate_id}/private-key", responses=ABOUT_ONE | FILE)
async def export_certificate_private_key(certificate_id: Id, exchange: Current) -> PemFile:
    """Save the private key of a certificate; that is recorded."""
    actor, call = await user_of(exchange)
    found = await exchange.request(
        GetCertificatePrivateKey(call=call, actor=actor, certificate_id=certificate_id)
    )
    return PemFile(f"certificate_{certificate_id}_private_key.pem", _key(found.private_key_pem))


@router.get("/certificate/{certificate_id}/chain/", include_in_schema=False)
@router.get("/certificate/{certificate_id}/chain", responses=ABOUT_ONE | FILE)
async def export_certificate_chain(certificate_id: Id, exchange: Current) -> PemFile:
    """Save a certificate and those above it, the root last."""
    actor, call = await user_of(exchange)
    found = await exchange.request(
        GetCertificateChain(call=call, actor=actor, certificate_id=certificate_id)
    )
    return PemFile(f"certificate_{certificate_id}_chain.pem", bundle(found.certificates_pem))


def _key(private_key_pem: str | None) -> str:
    """Return a key that is here. Raises `NOT_FOUND`."""
    if private_key_pem is None:
        raise CertwireError(ErrorCode.NOT_FOUND, "There is no private key here")
    return private_key_pem
