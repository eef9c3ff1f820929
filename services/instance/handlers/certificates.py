"""Renewal and bootstrap: claim → sign → record.

1. The claim is made in one statement that also says what was there (`store.renewals.claim`).
2. The issuer signs under the claim; it refuses one that was voided.
3. The certificate is recorded as the current one, the old one as superseded, with the audit record.
4. Only then is it answered.

What fails between 1 and 3 is voided: at once where we live to do it, else by the sweeper.
"""

import asyncio
import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from typing import Final
from uuid import UUID

from contracts.audit import Actor, AuditObject, Outcome
from contracts.certificates import SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.events import InstanceBootstrapped
from contracts.instance import BootstrapCertificate, InstanceStatus, RenewCertificate
from contracts.issuer import SignInstanceCertificate
from contracts.messages import Call
from contracts.principal import Principal, PrincipalKind
from services.instance.domain import wireguard
from services.instance.domain.renewal import explain, principal
from services.instance.domain.status import MAY_BOOTSTRAP
from services.instance.service import Instances
from services.instance.store import instances as store
from services.instance.store import renewals
from services.instance.store.instances import Bootstrap
from services.instance.store.renewals import Attempt, Signed
from shared import idempotency, outbox
from shared.database import Connection
from shared.identifiers import uuid7
from shared.secrets import token_hash
from shared.x509 import CertificateRequest, parse_csr

SIGNING_SHARE: Final = 1 / 3
"""What the issuer gets at most of the time after which a claim is voided."""
REPEAT_POLL_SECONDS: Final = 0.05


async def renew_certificate(command: RenewCertificate, instances: Instances) -> SignedCertificate:
    """Renew, or repeat the answer of the last renewal to who presents the superseded one."""
    if command.credential is None:
        raise CertwireError(ErrorCode.CREDENTIAL_MISSING)
    request, invalid = _parse(command.csr_pem)
    wg_public_key = wireguard.decode(command.wg_public_key)
    attempt = Attempt(
        claim_id=uuid7(),
        instance_id=command.instance_id,
        fingerprint=command.credential.sha256,
        wg_public_key=wg_public_key,
        wg_public_key_sha256=hashlib.sha256(wg_public_key or b"").digest(),
        csr_valid=request is not None,
        attempts_per_hour=instances.settings.instance_failed_attempts_per_hour,
        request_id=command.call.request_id,
    )
    answered = await instances.claims.submit(attempt)
    if not answered.claimed or request is None:
        try:
            explain(
                answered.presented,
                request.public_key_sha256 if request else None,
                attempt.attempts_per_hour,
                instances.settings.claim_lifetime,
            )
        except CertwireError as error:
            if error.code is ErrorCode.INVALID_CSR and invalid is not None:
                await _count_failure(instances, command.instance_id)
                raise CertwireError(error.code, invalid.detail, actor=error.actor) from None
            raise
        assert answered.successor is not None  # noqa: S101 - `explain` returned
        await _refuse_reused_key(instances, command.call)
        return answered.successor
    facts = answered.presented.instance
    assert facts is not None  # noqa: S101 - it was claimed
    claimed = _Claimed(attempt.claim_id, principal(facts), command.credential.sha256, facts.status)
    return await _issue(command, instances, claimed, request, is_renewal=True)


def _parse(csr_pem: str) -> tuple[CertificateRequest | None, CertwireError | None]:
    """Return the request or why it is invalid: who calls is judged before the CSR is."""
    try:
        return parse_csr(csr_pem), None
    except CertwireError as invalid:
        return None, invalid


async def _count_failure(instances: Instances, instance_id: UUID) -> None:
    async with instances.runtime.database.statement() as connection:
        await renewals.count_failure(connection, instance_id)


async def _refuse_reused_key(instances: Instances, call: Call) -> None:
    """Raise `IDEMPOTENCY_KEY_REUSED` where the key stood for another request."""
    if call.idempotency is not None:
        async with instances.runtime.database.connection() as connection:
            with suppress(idempotency.AnsweredBefore):
                await idempotency.refuse_or_answer(connection, call.idempotency)


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A claim that was made: whose it is and what its certificate takes the place of."""

    claim_id: UUID
    instance: Principal
    renews: str | None
    status: InstanceStatus


async def _issue(
    command: RenewCertificate | BootstrapCertificate,
    instances: Instances,
    claimed: _Claimed,
    request: CertificateRequest,
    *,
    is_renewal: bool,
) -> SignedCertificate:
    """Have the claim's certificate signed and record it: steps 2 and 3."""
    certificate = await _sign(command, instances, claimed)
    recorded = await instances.records.submit(
        Signed(
            claim_id=claimed.claim_id,
            instance_id=command.instance_id,
            certificate=certificate,
            public_key_sha256=request.public_key_sha256,
            is_renewal=is_renewal,
            actor_json=Actor.of(claimed.instance).model_dump_json(),
            row=outbox.outbox_row(
                instances.runtime.service,
                command.call.request_id,
                claimed.instance,
                "cert_renew" if is_renewal else "cert_bootstrap",
                AuditObject(
                    type="certificate", id=certificate.fingerprint, name=certificate.serial_hex
                ),
                detail={"instance_id": str(command.instance_id)},
                event=None if is_renewal else _bootstrapped(command, claimed, certificate),
                traceparent=command.call.traceparent,
            ),
            key=command.call.idempotency,
        )
    )
    instances.runtime.backlog.nudge()
    if not recorded:
        raise CertwireError(ErrorCode.CLAIM_VOIDED, "the certificate was not issued in time")
    return certificate


def _bootstrapped(
    command: RenewCertificate | BootstrapCertificate,
    claimed: _Claimed,
    certificate: SignedCertificate,
) -> InstanceBootstrapped:
    return InstanceBootstrapped(
        instance_id=command.instance_id,
        name=claimed.instance.name,
        status=claimed.status,
        fingerprint=certificate.fingerprint,
    )


async def _sign(
    command: RenewCertificate | BootstrapCertificate, instances: Instances, claimed: _Claimed
) -> SignedCertificate:
    seconds = SIGNING_SHARE * instances.settings.instance_claim_lifetime_seconds
    deadline = min(command.call.deadline, time.time() + seconds)
    try:
        return await instances.runtime.bus.request(
            SignInstanceCertificate(
                call=command.call.model_copy(update={"deadline": deadline, "idempotency": None}),
                claim_id=claimed.claim_id,
                actor=claimed.instance,
                csr_pem=command.csr_pem,
                instance_id=command.instance_id,
                renews=claimed.renews,
            )
        )
    except CertwireError:
        # The sweeper does it where this fails too.
        with suppress(CertwireError):
            await void_claims(instances, [(command.instance_id, claimed.claim_id)])
        raise


async def void_claims(instances: Instances, claims: list[tuple[UUID, UUID]]) -> None:
    """Void what is still pending of the claims (instance, claim), audited."""
    runtime = instances.runtime
    async with runtime.database.transaction() as connection:
        voided = await renewals.void(connection, claims)
        await outbox.append(
            connection,
            [
                outbox.outbox_row(
                    runtime.service,
                    claim.request_id,
                    runtime.principal,
                    "claim_void",
                    AuditObject(type="claim", id=str(claim.claim_id), name=""),
                    outcome=Outcome.FAILED,
                    detail={"instance_id": str(claim.instance_id)},
                )
                for claim in voided
            ],
        )
    runtime.backlog.nudge()


async def bootstrap_certificate(
    command: BootstrapCertificate, instances: Instances
) -> SignedCertificate:
    """Exchange a bootstrap token for the first certificate, or for the next one.

    A token that a claim holds is as good as spent: of many parallel calls one gets the certificate.
    """
    request, invalid = _parse(command.csr_pem)
    claim_id, hashed = uuid7(), token_hash(command.token)
    try:
        known = await _claim_bootstrap(command, instances, claim_id, hashed, invalid)
    except CertwireError as error:
        if error.code is ErrorCode.TOKEN_UNKNOWN:
            async with instances.runtime.database.statement() as connection:
                await store.count_bootstrap_failure(connection, command.call.source_address or "")
        raise
    assert request is not None  # noqa: S101 - an invalid one made no claim
    claimed = _Claimed(claim_id, _instance(command, known), known.current_fingerprint, known.status)
    return await _issue(command, instances, claimed, request, is_renewal=False)


async def _claim_bootstrap(
    command: BootstrapCertificate,
    instances: Instances,
    claim_id: UUID,
    hashed: str,
    invalid: CertwireError | None,
) -> Bootstrap:
    """Claim the certificate; a repeat of a request with its Idempotency-Key waits for the first."""
    address, key = command.call.source_address or "", command.call.idempotency
    database = instances.runtime.database
    await _require_patience(instances, address)
    while True:
        async with database.transaction() as connection:
            known = await store.bootstrap(connection, command.instance_id, hashed)
            if key is not None:  # after the lock, which a first call may just have given back
                await idempotency.refuse_or_answer(connection, key)
            if key is None or known is None or not known.token_claimed or not known.token_open:
                return await _decide_bootstrap(
                    connection, command, claim_id, hashed, known, invalid
                )
        if time.time() > command.call.deadline - REPEAT_POLL_SECONDS:
            raise CertwireError(ErrorCode.IDEMPOTENCY_IN_PROGRESS)
        await asyncio.sleep(REPEAT_POLL_SECONDS)


async def _require_patience(instances: Instances, address: str) -> None:
    async with instances.runtime.database.connection() as connection:
        wait = await store.bootstrap_wait_seconds(
            connection, address, instances.settings.instance_bootstrap_failures_per_minute
        )
    if wait is not None:
        raise CertwireError(
            ErrorCode.RATE_LIMITED,
            "too many failed attempts",
            retry_after_seconds=max(1, ceil(wait)),
        )


async def _decide_bootstrap(
    connection: Connection,
    command: BootstrapCertificate,
    claim_id: UUID,
    hashed: str,
    known: Bootstrap | None,
    invalid: CertwireError | None,
) -> Bootstrap:
    """Claim for the token, in the row lock of the instance.

    The order of checks: the token is this instance's, unspent and unexpired (401); the WireGuard
    key is the registered one (401); the instance is pending or running (409); the CSR (400). An
    unknown instance has no token: 401 too, so that the public endpoint tells nobody which exist.
    """
    if known is None or not known.token_open or known.token_claimed:
        raise CertwireError(ErrorCode.TOKEN_UNKNOWN, "the bootstrap token is not valid")
    actor = _instance(command, known)
    if not wireguard.equal(known.wg_public_key, wireguard.decode(command.wg_public_key)):
        raise CertwireError(
            ErrorCode.IDENTITY_MISMATCH, "identity verification failed", actor=actor
        )
    if known.status not in MAY_BOOTSTRAP:
        raise CertwireError(ErrorCode.INSTANCE_NOT_RUNNING, "Instance not running", actor=actor)
    if invalid is not None:
        raise invalid
    pending = await renewals.pending_claim(connection, command.instance_id)
    if pending is not None:
        await renewals.void(connection, [(command.instance_id, pending)])
    await store.claim_bootstrap(
        connection,
        claim_id,
        command.instance_id,
        known.current_fingerprint,
        hashed,
        command.call.request_id,
    )
    return known


def _instance(command: BootstrapCertificate, known: Bootstrap) -> Principal:
    return Principal(kind=PrincipalKind.INSTANCE, id=str(command.instance_id), name=known.name)
