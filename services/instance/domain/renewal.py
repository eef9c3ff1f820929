"""Whether a certificate is renewed, decided from what the claim statement saw.

The order of checks (the specification's errors, each at its place):

1. the client certificate is ours, unexpired and unrevoked (401)
2. the instance exists (404)
3. the certificate is this instance's current one (401), or the one that the last renewal
   superseded: then only the same key gets the same certificate again
4. the WireGuard key is the registered one (401)
5. the instance is running (409)
6. not too many attempts failed (429)
7. the CSR parses and its signature verifies (400)
8. no renewal in the last 3,600 s, none under way (429)
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import InstanceStatus
from contracts.principal import Principal, PrincipalKind
from services.instance.domain import wireguard

RENEWAL_INTERVAL: Final = timedelta(seconds=3600)
"""One successful renewal in any 3,600 s (instance-lifecycle specification)."""
ATTEMPT_WINDOW: Final = timedelta(hours=1)
SUPERSEDED: Final = "superseded"


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """The instance's row."""

    id: str
    name: str
    status: InstanceStatus
    wg_public_key: bytes
    vpn_ip: str
    current_fingerprint: str | None
    renewed_at: datetime | None
    claim_pending: bool
    failing_since: datetime | None
    failures: int


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """A row of the inventory."""

    instance_id: str
    fingerprint: str
    expires_at: datetime
    revoked: bool
    superseded_by: str | None


@dataclass(frozen=True, slots=True)
class Presented:
    """What a call brings, and what the database knew about it at `now`."""

    now: datetime
    instance: InstanceFacts | None
    certificate: CertificateFacts | None
    successor_public_key_sha256: str | None
    """Of the certificate that superseded the presented one, while that is the current one."""
    wg_public_key: bytes | None


def identify(presented: Presented, *, allow_superseded: bool = False) -> InstanceFacts:
    """Return the instance that calls: steps 1 to 4. Raises the step's error.

    With `allow_superseded`, the certificate that the last renewal superseded passes too.
    """
    certificate, instance = presented.certificate, presented.instance
    retries = allow_superseded and presented.successor_public_key_sha256 is not None
    # 1
    if (
        certificate is None
        or certificate.expires_at <= presented.now
        or (certificate.revoked and not retries)
    ):
        raise CertwireError(
            ErrorCode.CREDENTIAL_REFUSED, "the client certificate is unknown, expired or revoked"
        )
    # 2
    if instance is None:
        raise CertwireError(ErrorCode.NOT_FOUND, "Instance not found")
    # 3
    if certificate.instance_id != instance.id or not (
        retries or instance.current_fingerprint == certificate.fingerprint
    ):
        raise CertwireError(
            ErrorCode.IDENTITY_MISMATCH, "the client certificate is not this instance's current one"
        )
    # 4
    if not wireguard.equal(instance.wg_public_key, presented.wg_public_key):
        raise CertwireError(
            ErrorCode.IDENTITY_MISMATCH, "identity verification failed", actor=principal(instance)
        )
    return instance


def require_running(instance: InstanceFacts) -> None:
    """Step 5. Raises `INSTANCE_NOT_RUNNING`."""
    if instance.status is not InstanceStatus.RUNNING:
        raise CertwireError(
            ErrorCode.INSTANCE_NOT_RUNNING, "Instance not running", actor=principal(instance)
        )


def explain(
    presented: Presented,
    csr_public_key_sha256: str | None,
    attempts_per_hour: int,
    claim_lifetime: timedelta,
) -> InstanceFacts:
    """Return the instance where the lost reply of its last renewal is to be repeated.

    For a call that made no claim: everything else is raised as the first error in order. A CSR
    that is invalid has no `csr_public_key_sha256`, and `INVALID_CSR` is raised at its place.
    """
    instance = identify(presented, allow_superseded=True)
    require_running(instance)
    actor = principal(instance)
    # 6
    if (
        instance.failing_since is not None
        and instance.failures >= attempts_per_hour
        and (ends := instance.failing_since + ATTEMPT_WINDOW) > presented.now
    ):
        raise _limited(ends - presented.now, actor)
    successor = presented.successor_public_key_sha256
    if successor is not None:
        if successor != csr_public_key_sha256:
            raise CertwireError(
                ErrorCode.CREDENTIAL_REFUSED, "the client certificate is superseded", actor=actor
            )
        return instance
    # 7
    if csr_public_key_sha256 is None:
        raise CertwireError(ErrorCode.INVALID_CSR, actor=actor)
    # 8
    if instance.renewed_at is not None:
        wait = instance.renewed_at + RENEWAL_INTERVAL - presented.now
        if wait > timedelta(0):
            raise _limited(wait, actor)
    raise _limited(claim_lifetime, actor)


def _limited(wait: timedelta, actor: Principal) -> CertwireError:
    return CertwireError(
        ErrorCode.RATE_LIMITED,
        "Rate limit exceeded (1 renewal per hour)",
        retry_after_seconds=max(1, ceil(wait.total_seconds())),
        actor=actor,
    )


def principal(instance: InstanceFacts) -> Principal:
    """Return the instance as an actor."""
    return Principal(
        kind=PrincipalKind.INSTANCE,
        id=instance.id,
        name=instance.name,
        fingerprint=instance.current_fingerprint,
    )
