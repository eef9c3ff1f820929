"""`/api/v1/certificates/search`: the inventory of all certificates, ours beyond the dialect."""

import re
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import AfterValidator

from contracts.certificates import CertificateKind
from contracts.errors import ErrorCode
from contracts.messages import PAGE_LIMIT
from contracts.pki import CertificateStatus, SearchCertificates
from contracts.principal import CredentialKind
from services.gateway.dialects.dialect import Body
from services.gateway.dialects.fastpki.certificates import (
    PREFIX,
    Certificate,
    CertificateRoute,
)
from services.gateway.dialects.fastpki.parameters import NO_NUL, Moment
from services.gateway.exchange import Current
from services.gateway.refusals import described
from services.gateway.shapes import Detail, Issues

COMMON_NAME_CHARACTERS: Final = 255
FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
SERIAL: Final = re.compile(r"[0-9a-f]{1,40}")
PRINTED_CHARACTERS: Final = 255
"""Room for colons between the octets, and zeros in front."""


def _hex(form: re.Pattern[str], text: str) -> str:
    digits = text.replace(":", "").lower()
    if not form.fullmatch(digits):
        raise ValueError("hexadecimal digits, colons between them or none")
    return digits


def _serial(text: str) -> str:
    return _hex(SERIAL, text.replace(":", "").lstrip("0") or "0")


def _fingerprint(text: str) -> str:
    return _hex(FINGERPRINT, text)


def _has_a_beginning(text: str) -> str:
    if text == "*":
        raise ValueError("a beginning has one character at least")
    return text


CommonName = Annotated[
    str,
    Query(min_length=1, max_length=COMMON_NAME_CHARACTERS, pattern=NO_NUL),
    AfterValidator(_has_a_beginning),
]
"""Whole, or its beginning with `*` at the end."""
AlternativeName = Annotated[str, Query(min_length=1, max_length=1024, pattern=NO_NUL)]
Serial = Annotated[str, Query(min_length=1, max_length=PRINTED_CHARACTERS), AfterValidator(_serial)]
Fingerprint = Annotated[str, Query(max_length=PRINTED_CHARACTERS), AfterValidator(_fingerprint)]
Id = Annotated[int, Query(ge=1, lt=2**63)]


class CertificatesFound(Body):
    """A page, and where the next one begins; null at the end."""

    certificates: list[Certificate]
    next_cursor: str | None


router = APIRouter(
    prefix=PREFIX,
    route_class=CertificateRoute,
    tags=["certificates"],
    responses={
        int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues},
        **described(
            CertificateRoute.refusals,
            (ErrorCode.CREDENTIAL_MISSING, ErrorCode.CREDENTIAL_REFUSED, ErrorCode.FORBIDDEN),
            Detail,
        ),
    },
)


@router.get("/search/", include_in_schema=False)
@router.get("/search")
async def search_certificates(
    exchange: Current,
    common_name: CommonName | None = None,
    san: AlternativeName | None = None,
    serial: Serial | None = None,
    fingerprint: Fingerprint | None = None,
    status: CertificateStatus | None = None,
    certificate_type: CertificateKind | None = None,
    issuer_id: Id | None = None,
    organization_id: Id | None = None,
    expires_after: Moment = None,
    expires_before: Moment = None,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 100,
) -> CertificatesFound:
    """Find certificates that meet every condition.

    By end where the search is about the end (`status` valid or expired, `expires_after`,
    `expires_before`): what ends soonest first, of expired ones what ended last; else the newest
    first. A cursor is good for searches of its order. A page may be short, or empty: there is more
    until `next_cursor` is null.

    Of all that the caller may see: those of CAs are among them, for superusers the platform's too.
    """
    actor, call = await exchange.caller(CredentialKind.BEARER)
    page = await exchange.request(
        SearchCertificates(
            call=call,
            actor=actor,
            common_name=common_name,
            san=san,
            serial_hex=serial,
            fingerprint=fingerprint,
            status=status,
            certificate_type=certificate_type,
            issuer_id=issuer_id,
            organization_id=organization_id,
            expires_after=expires_after,
            expires_before=expires_before,
            cursor=cursor,
            limit=limit,
        )
    )
    return CertificatesFound.model_construct(
        certificates=list(map(Certificate.of, page.certificates)), next_cursor=page.next_cursor
    )
