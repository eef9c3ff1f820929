"""Certificates of users; signing CSRs, the hot path, is in `issuing`."""

import time
from dataclasses import replace
from typing import Any, Final

from contracts.audit import AuditObject
from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.events import CaRetired, CertificateRevoked
from contracts.pki import (
    CertificateCommand,
    CertificateList,
    CertificateView,
    CertificateWithKey,
    Chain,
    CreateCertificate,
    GetCertificate,
    GetCertificateChain,
    GetCertificatePrivateKey,
    ListCertificates,
    RevokeCertificate,
    SignCsr,
)
from contracts.principal import Principal, Role
from services.issuer import issuing, keys, views
from services.issuer.domain import subjects
from services.issuer.domain.encoding import pem
from services.issuer.domain.permissions import ACTIONS, Action, Object, authorise, user_id
from services.issuer.domain.profiles import USER_KINDS
from services.issuer.domain.revocation_reasons import reason_of
from services.issuer.hierarchy import audited
from services.issuer.issuing import Wish
from services.issuer.service import Issuer
from services.issuer.store import cas, certificates, revoked
from services.issuer.store.cas import ACTIVE, RETIRED
from services.issuer.store.certificates import Kept, Seen
from services.issuer.store.sealed import CERTIFICATE_KEY
from shared import idempotency
from shared.clock import utc_now
from shared.database import Connection
from shared.unit_of_work import UnitOfWork

RSA_BITS: Final = 2048
"""Of a certificate's key, where nothing is said of it: the ruling's."""


async def sign_csr(command: SignCsr, issuer: Issuer) -> CertificateView:
    """Sign a CSR."""
    return await issuing.sign_csr(issuer, command)


async def create_certificate(command: CreateCertificate, issuer: Issuer) -> CertificateWithKey:
    """Make a key and a certificate of it.

    1. What is refused, or was done before, costs no key.
    2. The key is made while no transaction is open: RSA takes its time.
    3. What the user may is decided again, by what is true then.
    """
    algorithm = keys.key_spec(command.key_type, command.key_size, RSA_BITS)
    wish = Wish(
        command.actor,
        command.call,
        issuing.visit(command.actor, command.ca_id, None),
        command.certificate_type,
        subjects.of_request(command.certificate_type, command.names),
        command.valid_days,
    )
    if command.call.idempotency is not None:  # 1
        async with issuer.runtime.database.connection() as connection:
            await idempotency.refuse_or_answer(connection, command.call.idempotency)
    issuing.permitted(wish, await issuer.visits.submit(wish.visit), utc_now())
    key = await issuer.keys.take(algorithm)  # 2
    if command.call.deadline < time.time():
        raise CertwireError(ErrorCode.OUTCOME_UNKNOWN)
    async with issuer.runtime.unit_of_work(command) as work:  # 3
        view = await issuing.issue_within(work.connection, issuer, wish, key.public_key())
        if not command.include_private_key:
            return await work.answer(CertificateWithKey(certificate=view, private_key_pem=None))
        sealed = issuer.settings.sealer.seal(
            keys.to_der(key), CERTIFICATE_KEY.row(view.fingerprint)
        )
        await certificates.keep_key(work.connection, view.fingerprint, sealed)
        made = CertificateWithKey(certificate=view, private_key_pem=keys.to_pem(key))
        return await work.answer(made, secret=True)


async def list_certificates(command: ListCertificates, issuer: Issuer) -> CertificateList:
    """Return a page of the certificates that the actor may see."""
    actor, ca_id, skip, limit = command.actor, command.ca_id, command.skip, command.limit
    user, organization = user_id(actor), actor.organization_id
    async with issuer.runtime.database.connection() as connection:
        if actor.role is Role.SUPERUSER:
            found = await certificates.listed(connection, ca_id, skip=skip, limit=limit)
        else:
            found = await certificates.listed_for(
                connection, organization, user, ca_id, skip=skip, limit=limit
            )
    now = utc_now()
    return CertificateList(certificates=tuple(views.of_kept(kept, now) for kept in found))


async def get_certificate(command: GetCertificate, issuer: Issuer) -> CertificateView:
    """Return one certificate."""
    async with issuer.runtime.database.connection() as connection:
        seen = await _seen(connection, command)
    return views.of_kept(seen.kept, utc_now())


async def get_certificate_chain(command: GetCertificateChain, issuer: Issuer) -> Chain:
    """Return a certificate and those above it."""
    async with issuer.runtime.database.connection() as connection:
        kept = (await _seen(connection, command)).kept
        above = [ca.certificate for ca in await cas.chain(connection, kept.ca_id)]
    ders = above if kept.certificate in above else [kept.certificate, *above]
    return Chain(certificates_pem=tuple(map(pem, ders)))


async def get_certificate_private_key(
    command: GetCertificatePrivateKey, issuer: Issuer
) -> CertificateWithKey:
    """Return a certificate with its private key, which is recorded."""
    async with issuer.runtime.unit_of_work(command) as work:
        kept = (await _seen(work.connection, command)).kept
        sealed = await certificates.sealed_key(work.connection, kept.fingerprint)
        if sealed is None:
            raise CertwireError(ErrorCode.NOT_FOUND, "There is no private key of the certificate")
        sealer, row = issuer.settings.sealer, CERTIFICATE_KEY.row(kept.fingerprint)
        key = keys.from_der(sealer.open(sealed, row))
        work.record(command.actor, "cert_export_private_key", _audit_object(kept))
        view = views.of_kept(kept, utc_now())
        exported = CertificateWithKey(certificate=view, private_key_pem=keys.to_pem(key))
        return await work.answer(exported, secret=True)


async def revoke_certificate(command: RevokeCertificate, issuer: Issuer) -> CertificateView:
    """Revoke a certificate; the next CRL lists it.

    1. It waits for whoever revokes the same one.
    2. Who may depends on what it is: a CA's own certificate falls to who may delete the CA.
    3. The platform's own certificates are not revoked here.
    4. A CA whose certificate is revoked signs nothing any more.
    """
    actor = command.actor
    async with issuer.runtime.unit_of_work(command) as work:
        seen = _existing(
            await certificates.lock(work.connection, command.certificate_id, user_id(actor))
        )  # 1
        kept = seen.kept
        action = ACTIONS[type(command)] if kept.for_ca_id is None else Action.DELETE_CA
        _authorise(command, action, seen)  # 2
        _check_revocable(kept)  # 3
        now, reason = utc_now(), reason_of(command.reason)
        await revoked.revoke(work.connection, [(kept.fingerprint, now, reason, command.reason)])
        if kept.for_ca_id is not None:  # 4
            await _retire(work, actor, kept.for_ca_id)
        work.record(
            actor,
            "cert_revoke",
            _audit_object(kept),
            detail={
                "kind": kept.kind,
                "fingerprint": kept.fingerprint,
                "serial_hex": kept.serial_hex,
                "reason": reason,
                "detail": command.reason,
            },
            event=CertificateRevoked(
                fingerprint=kept.fingerprint,
                serial_hex=kept.serial_hex,
                kind=CertificateKind(kept.kind),
                issuer=seen.issuer,
                subject=kept.subject,
                owner=kept.owner_id,
                revoked_at=now,
                reason=reason,
                detail=command.reason or "",
            ),
        )
        after = replace(
            kept, revoked_at=now, revocation_reason=reason, revocation_detail=command.reason
        )
        return await work.answer(views.of_kept(after, now))


async def _retire(work: UnitOfWork, actor: Principal, ca_id: int) -> None:
    """Let a CA sign nothing new, unless that is so already."""
    ca = await cas.lock(work.connection, ca_id)
    if ca is None or ca.state != ACTIVE:
        return
    await cas.set_state(work.connection, ca.id, RETIRED)
    event = CaRetired(
        ca=ca.slug, fingerprint=ca.fingerprint, subject=ca.subject, not_after=ca.not_after
    )
    work.record(actor, "ca_retire", audited(ca), event=event)


def _check_revocable(kept: Kept) -> None:
    kind = CertificateKind(kept.kind)
    if kind not in USER_KINDS:
        raise CertwireError(
            ErrorCode.OWNED_ELSEWHERE,
            f"This is the certificate of {_ELSEWHERE[kind]}",
            parameters={"service": kept.owner_service},
        )
    if kept.revoked_at is not None:
        raise CertwireError(ErrorCode.ALREADY_REVOKED)
    if kept.for_ca_id == kept.ca_id:
        raise CertwireError(
            ErrorCode.CONFLICT, "No CA says of a root that it is revoked: delete the CA instead"
        )


_ELSEWHERE: Final = {
    CertificateKind.ROOT_CA: "the platform's root, which `certwire ca` looks after",
    CertificateKind.ISSUING_CA: "the platform's issuing CA, which `certwire ca` looks after",
    CertificateKind.GATEWAY: "the platform's gateway, which renews it by itself",
    CertificateKind.OCSP_RESPONDER: "an OCSP responder, which renews it by itself",
    CertificateKind.ADMIN: "the administrator, revoked by POST /api/certs/mtls/rotate",
    CertificateKind.AGENT: "an agent, revoked by DELETE /api/certs/agent/<label>",
    CertificateKind.INSTANCE: (
        "an instance, revoked by POST /internal/v1/instances/<id>/cert/revoke"
    ),
}


async def _seen(connection: Connection, command: CertificateCommand[Any]) -> Seen:
    """Return the certificate. Raises `NOT_FOUND` and `FORBIDDEN`."""
    user = user_id(command.actor)
    seen = _existing(await certificates.see(connection, command.certificate_id, user))
    _authorise(command, ACTIONS[type(command)], seen)
    return seen


def _existing(seen: Seen | None) -> Seen:
    if seen is None:
        raise CertwireError(ErrorCode.NOT_FOUND, "Certificate not found")
    return seen


def _authorise(command: CertificateCommand[Any], action: Action, seen: Seen) -> None:
    of = Object(seen.kept.organization_id, seen.kept.created_by_user_id)
    authorise(command.actor, action, of, seen.grants)


def _audit_object(kept: Kept) -> AuditObject:
    return AuditObject(
        type="certificate",
        id=str(kept.id),
        name=kept.subject,
        organization_id=kept.organization_id,
    )
