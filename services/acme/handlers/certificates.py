"""Certificates of projects: what there is, uploads, revocation, removal."""

import asyncio
import time
from dataclasses import replace
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from contracts.acme import (
    CertificateChain,
    CertificateType,
    DownloadCertificate,
    FoundCertificate,
    GetPrivateKey,
    GetPublicCertificate,
    PrivateKey,
    PublicCertificate,
    RemoveCertificate,
    RevokePublicCertificate,
    UploadCertificate,
    ValidateCertificate,
    Validation,
)
from contracts.audit import AuditObject
from contracts.certificates import CertificateKind, RevocationReason
from contracts.errors import CertwireError, ErrorCode
from contracts.events import CertificateRemoved, CertificateRevoked, CertificateUploaded
from contracts.messages import Done
from services.acme.client import (
    Account,
    AcmeProblem,
    CaMisbehaves,
    CaUnavailable,
    NotOfferedError,
)
from services.acme.domain import material
from services.acme.domain.permissions import authorise
from services.acme.handlers.access import (
    locked,
    no_certificate,
    project,
    require_no_order,
)
from services.acme.keys import Key, load_account_key, load_key, private_der, private_pem
from services.acme.service import Acme, UnknownDirectoryError
from services.acme.store import accounts, certificates
from services.acme.store.certificates import CertificateRow, NewCertificate
from services.acme.store.sealed import ACCOUNT_KEY, CERTIFICATE_KEY
from shared import idempotency
from shared.clock import rfc3339, utc_now
from shared.database import clock
from shared.unit_of_work import UnitOfWork

ANSWER_SECONDS: Final = 1.0
"""What a revocation keeps of the caller's time, so that they hear of it."""


async def get_certificate(command: GetPublicCertificate, acme: Acme) -> FoundCertificate:
    """Return the project's certificate, if it has one."""
    authorise(command.actor, command)
    async with acme.runtime.database.connection() as connection:
        found = await project(connection, command)
        certificate = await certificates.visible(connection, found.id)
    return FoundCertificate(certificate=certificate.shown() if certificate else None)


async def download_certificate(command: DownloadCertificate, acme: Acme) -> CertificateChain:
    """Return the chain."""
    authorise(command.actor, command)
    async with acme.runtime.database.connection() as connection:
        found = await project(connection, command)
        certificate = await certificates.visible(connection, found.id)
    if certificate is None:
        raise no_certificate(command)
    return CertificateChain(
        domain=certificate.domain,
        chain_pem=certificate.chain_pem,
        fingerprint=certificate.fingerprint,
    )


async def get_private_key(command: GetPrivateKey, acme: Acme) -> PrivateKey:
    """Return the key, and record that it left."""
    authorise(command.actor, command)
    async with acme.runtime.unit_of_work(command) as work:
        found = await project(work.connection, command)
        certificate = await certificates.visible(work.connection, found.id)
        if certificate is None:
            raise no_certificate(command)
        der = acme.sealer.open(certificate.sealed_key, CERTIFICATE_KEY.row(certificate.id))
        work.record(
            command.actor,
            "cert_export_private_key",
            _object(certificate),
            detail={"project_id": found.id},
        )
        return await work.answer(
            PrivateKey(
                domain=certificate.domain,
                private_key_pem=private_pem(der),
                fingerprint=certificate.fingerprint,
            ),
            secret=True,
        )


async def validate_certificate(command: ValidateCertificate, acme: Acme) -> Validation:
    """Say what an upload would say."""
    authorise(command.actor, command)
    async with acme.runtime.database.connection() as connection:
        found = await project(connection, command)
    try:
        read = material.read(
            command.material.certificate, command.material.private_key, found.domain, utc_now()
        )
    except CertwireError as error:
        if error.code is not ErrorCode.INVALID_CERTIFICATE:
            raise
        return Validation(valid=False, error=error.detail)
    return Validation(
        valid=True,
        domain=found.domain or read.names[0],
        expires_at=read.not_after,
        issuer_common_name=read.issuer_common_name,
        issuer_organization=read.issuer_organization,
        warnings=read.warnings,
    )


async def upload_certificate(command: UploadCertificate, acme: Acme) -> PublicCertificate:
    """Put a certificate of another CA in the place of the project's."""
    authorise(command.actor, command)
    async with acme.runtime.unit_of_work(command) as work:
        found = await locked(work.connection, command)
        if found.domain is None:
            raise CertwireError(
                ErrorCode.AGAINST_POLICY, "Project has no domain configured", actor=command.actor
            )
        await require_no_order(work.connection, command)
        read = material.read(
            command.material.certificate, command.material.private_key, found.domain, utc_now()
        )
        former = await certificates.of_kind(work.connection, found.id, staging=False)
        if former is not None and former.fingerprint != read.fingerprint:
            _record_removal(work, command, former)
        for staging in (False, True):
            await certificates.remove(work.connection, found.id, staging=staging)
        new_id = await certificates.new_id(work.connection)
        row = await certificates.insert(
            work.connection,
            NewCertificate(
                id=new_id,
                project_id=found.id,
                staging=False,
                type=CertificateType.CUSTOM,
                domain=found.domain,
                names=read.names,
                fingerprint=read.fingerprint,
                serial_hex=read.serial_hex,
                subject=read.subject,
                issuer=read.issuer,
                issuer_common_name=read.issuer_common_name,
                issuer_organization=read.issuer_organization,
                not_before=read.not_before,
                not_after=read.not_after,
                chain_pem=read.chain_pem,
                sealed_key=acme.sealer.seal(private_der(read.key), CERTIFICATE_KEY.row(new_id)),
            ),
        )
        work.record(
            command.actor,
            "cert_upload",
            _object(row),
            detail={
                "project_id": found.id,
                "domain": row.domain,
                "issuer": row.issuer,
                "not_after": rfc3339(row.not_after),
            },
            event=CertificateUploaded(
                **_facts(row), not_before=row.not_before, not_after=row.not_after
            ),
        )
        return await work.answer(row.shown())


async def revoke_certificate(command: RevokePublicCertificate, acme: Acme) -> Done:
    """Revoke at the CA, then here: cut off between the two, it is done by the next call.

    1. It was not answered before; there is a certificate, not revoked yet, and no order goes on.
    2. The CA revokes it, or has done so before.
    3. That is committed with its event, even where a renewal has replaced it meanwhile.
    """
    authorise(command.actor, command)
    key = command.call.idempotency
    async with acme.runtime.database.connection() as connection:
        if key is not None:
            await idempotency.refuse_or_answer(connection, key)
        found = await project(connection, command)
        await require_no_order(connection, command)
        certificate = await certificates.visible(connection, found.id)
    _require_revocable(certificate, command)  # 1
    assert certificate is not None  # noqa: S101 - just seen to
    if certificate.type is CertificateType.LETSENCRYPT:
        await _revoke_at_ca(certificate, command, acme)  # 2
    async with acme.runtime.unit_of_work(command) as work:
        await locked(work.connection, command)
        revoked = await certificates.revoke(work.connection, certificate.id)
        if revoked is None:  # by somebody else at the same time, or another took its place
            found_now = await certificates.get(work.connection, certificate.id)
            if found_now is not None or certificate.type is CertificateType.CUSTOM:
                _require_revocable(found_now, command)
            now = await clock(work.connection)
            revoked = replace(certificate, revoked_at=now)  # what the CA has done is told
        assert revoked.revoked_at is not None  # noqa: S101 - it was just set
        reason = RevocationReason.UNSPECIFIED
        work.record(
            command.actor,
            "cert_revoke",
            _object(revoked),
            detail={"project_id": revoked.project_id, "reason": reason},
            event=CertificateRevoked(
                **_facts(revoked), revoked_at=revoked.revoked_at, reason=reason, detail=""
            )
            if not revoked.staging
            else None,
        )
        return await work.answer(Done())


async def remove_certificate(command: RemoveCertificate, acme: Acme) -> Done:
    """Forget the project's certificate and its key."""
    authorise(command.actor, command)
    async with acme.runtime.unit_of_work(command) as work:
        found = await locked(work.connection, command)
        await require_no_order(work.connection, command)
        certificate = await certificates.visible(work.connection, found.id)
        if certificate is None:
            raise no_certificate(command)
        for staging in (False, True):
            await certificates.remove(work.connection, found.id, staging=staging)
        _record_removal(work, command, certificate)
        return await work.answer(Done())


def removed(certificate: CertificateRow) -> CertificateRemoved | None:
    """Return the event of a certificate that is there no longer; staging's is no news."""
    return None if certificate.staging else CertificateRemoved(**_facts(certificate))


def _record_removal(
    work: UnitOfWork,
    command: RemoveCertificate | UploadCertificate,
    certificate: CertificateRow,
) -> None:
    work.record(
        command.actor,
        "cert_remove",
        _object(certificate),
        detail={"project_id": certificate.project_id},
        event=removed(certificate),
    )


def _require_revocable(
    certificate: CertificateRow | None, command: RevokePublicCertificate
) -> None:
    if certificate is None:
        raise no_certificate(command)
    if certificate.revoked_at is not None:
        raise CertwireError(
            ErrorCode.ALREADY_REVOKED, "Certificate is already revoked", actor=command.actor
        )


async def _revoke_at_ca(
    certificate: CertificateRow, command: RevokePublicCertificate, acme: Acme
) -> None:
    """Have the CA revoke. Raises `CA_UNAVAILABLE` and `ORDER_FAILED`."""
    async with acme.runtime.database.connection() as connection:
        row = await accounts.get(connection, certificate.account_id or 0)
    assert row is not None  # noqa: S101 - certificates of CAs refer to it
    signer: Account | Key
    if row.url is not None:
        key = load_account_key(acme.sealer.open(row.sealed_key, ACCOUNT_KEY.row(row.id)))
        signer = Account(key, row.url)
    else:  # RFC 8555 section 7.6: where the CA has forgotten the account, the own key will do
        own = acme.sealer.open(certificate.sealed_key, CERTIFICATE_KEY.row(certificate.id))
        signer = load_key(own)
    leaf = x509.load_pem_x509_certificate(certificate.chain_pem.encode())
    try:
        async with asyncio.timeout(command.call.deadline - time.time() - ANSWER_SECONDS):
            await acme.client(row.directory).revoke(signer, leaf.public_bytes(Encoding.DER), None)
    except (CaUnavailable, TimeoutError) as problem:
        reason = problem.reason if isinstance(problem, CaUnavailable) else "no answer in time"
        said = problem.retry_after_seconds if isinstance(problem, CaUnavailable) else None
        raise CertwireError(
            ErrorCode.CA_UNAVAILABLE,
            f"The CA is unavailable: {reason}",
            retry_after_seconds=said or 60,
            actor=command.actor,
        ) from problem
    except UnknownDirectoryError as problem:
        raise CertwireError(
            ErrorCode.ORDER_FAILED,
            "The CA of this certificate is not in the settings any more",
            actor=command.actor,
        ) from problem
    except (AcmeProblem, CaMisbehaves, NotOfferedError) as problem:
        raise CertwireError(
            ErrorCode.ORDER_FAILED, f"The CA refused: {problem}", actor=command.actor
        ) from problem


def _object(certificate: CertificateRow) -> AuditObject:
    return AuditObject(type="certificate", id=certificate.fingerprint, name=certificate.domain)


def _facts(certificate: CertificateRow) -> dict[str, str]:
    is_uploaded = certificate.type is CertificateType.CUSTOM
    return {
        "fingerprint": certificate.fingerprint,
        "serial_hex": certificate.serial_hex,
        "kind": CertificateKind.UPLOADED if is_uploaded else CertificateKind.ACME,
        "issuer": certificate.issuer,
        "subject": certificate.subject,
        "owner": certificate.project_id,
    }
