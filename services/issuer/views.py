"""Certificates as their users see them."""

import math
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from contracts.certificates import CertificateKind, RevocationReason
from contracts.pki import CertificateStatus, CertificateView
from services.issuer.domain.authorities import key_facts
from services.issuer.domain.encoding import pem
from services.issuer.store.certificates import Kept
from services.issuer.store.signed import Issuance
from shared.x509 import PublicKey

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)


def of_kept(kept: Kept, now: datetime) -> CertificateView:
    """Return the view of a certificate that is on record."""
    key_type, key_size = key_facts(public_key(kept.certificate))
    reason = kept.revocation_reason
    return CertificateView.model_construct(
        id=kept.id,
        common_name=kept.common_name,
        subject_dn=kept.subject,
        subject_alternative_names=tuple(kept.names),
        certificate_type=CertificateKind(kept.kind),
        key_type=key_type,
        key_size=key_size,
        valid_days=_days(kept.not_before, kept.not_after),
        status=_status(kept, now),
        certificate_pem=pem(kept.certificate),
        fingerprint=kept.fingerprint,
        serial_hex=kept.serial_hex,
        not_before=kept.not_before,
        not_after=kept.not_after,
        revoked_at=kept.revoked_at,
        revocation_reason=RevocationReason(reason) if reason is not None else None,
        revocation_detail=kept.revocation_detail,
        issuer_id=kept.ca_id,
        organization_id=kept.organization_id,
        created_by_user_id=kept.created_by_user_id,
        created_at=kept.created_at,
        updated_at=kept.revoked_at or kept.created_at,
    )


def public_key(certificate_der: bytes) -> PublicKey:
    """Return the key of a certificate that was signed here."""
    key = x509.load_der_x509_certificate(certificate_der).public_key()
    assert isinstance(key, PublicKey)  # noqa: S101 - nothing else is signed
    return key


def of_issuance(issuance: Issuance, key: PublicKey, created_at: datetime) -> CertificateView:
    """Return the view of a user's certificate that was recorded just now."""
    certificate, number = issuance.certificate, issuance.certificate_id
    assert number is not None  # noqa: S101 - users' certificates are numbered before they are made
    key_type, key_size = key_facts(key)
    return CertificateView.model_construct(
        id=number,
        common_name=issuance.common_name,
        subject_dn=issuance.subject,
        subject_alternative_names=issuance.names,
        certificate_type=CertificateKind(issuance.kind),
        key_type=key_type,
        key_size=key_size,
        valid_days=_days(certificate.not_before, certificate.not_after),
        status=CertificateStatus.VALID,
        certificate_pem=pem(certificate.der),
        fingerprint=certificate.fingerprint,
        serial_hex=certificate.serial_hex,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        revoked_at=None,
        revocation_reason=None,
        revocation_detail=None,
        issuer_id=issuance.ca_id,
        organization_id=issuance.organization_id,
        created_by_user_id=issuance.created_by_user_id,
        created_at=created_at,
        updated_at=created_at,
    )


def _status(kept: Kept, now: datetime) -> CertificateStatus:
    if kept.revoked_at is not None:
        return CertificateStatus.REVOKED
    return CertificateStatus.EXPIRED if kept.not_after < now else CertificateStatus.VALID


def _days(not_before: datetime, not_after: datetime) -> int:
    """Return how many days a certificate is valid, the last one begun; both ends are inclusive."""
    return math.ceil((not_after + _SECOND - not_before) / _DAY)
