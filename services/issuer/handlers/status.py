"""What anybody may ask: CRLs, CA certificates, OCSP."""

from typing import Final

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import AnswerOcsp, CaCertificate, Crl, GetCaCertificate, GetCrl, OcspAnswer
from services.issuer.domain.encoding import pem
from services.issuer.service import Issuer
from services.issuer.store import cas
from services.issuer.store.cas import Ca

PIECE_BYTES: Final = 1_000_000
"""Far below `max_payload`, in base64 too."""


async def get_crl(command: GetCrl, issuer: Issuer) -> Crl:
    """Return a piece of the CRL that was made last."""
    try:
        held = await issuer.crls.current(await _ca(issuer, command.slug))
    except CertwireError as error:
        if error.code in {ErrorCode.CA_CANNOT_SIGN, ErrorCode.NOT_INITIALISED}:
            raise CertwireError(ErrorCode.UNAVAILABLE) from error
        raise
    if held is None:
        raise CertwireError(ErrorCode.NOT_FOUND)
    row = held.row
    if command.number not in {None, row.number}:
        raise CertwireError(ErrorCode.CONFLICT)
    known = command.known_number == row.number
    return Crl(
        number=row.number,
        this_update=row.this_update,
        next_update=row.next_update,
        size=row.size,
        piece=None if known else held.der[command.offset : command.offset + PIECE_BYTES],
    )


async def get_ca_certificate(command: GetCaCertificate, issuer: Issuer) -> CaCertificate:
    """Return the certificate of a CA in any state."""
    ca = await _ca(issuer, command.slug)
    return CaCertificate(certificate_pem=pem(ca.certificate))


async def answer_ocsp(command: AnswerOcsp, issuer: Issuer) -> OcspAnswer:
    """Answer with the CA's responder."""
    return await issuer.responders.answer(command.slug, command.request)


async def _ca(issuer: Issuer, slug: str) -> Ca:
    """Return the CA of a slug. Raises `NOT_FOUND`."""
    async with issuer.runtime.database.connection() as connection:
        ca = await cas.by_slug(connection, slug)
    if ca is None:
        raise CertwireError(ErrorCode.NOT_FOUND)
    return ca
