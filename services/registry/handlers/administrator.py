"""The administrator's own certificate: reset, rotation, download, upgrade.

Whoever rotates or upgrades is nobody afterwards. So the answer to a repeat with its Idempotency-Key
is looked for before who asks is judged, here alone: it can only have been theirs.
"""

from collections.abc import Awaitable, Callable

from contracts.agents import (
    AdminAuthMode,
    AdminCommand,
    AuthMode,
    Bundle,
    DownloadAdminBundle,
    GetAuthMode,
    GetMtlsCertificates,
    MtlsCertificates,
    RotateAdmin,
    RotatedAdmin,
    UpgradeAdmin,
    UpgradedAdmin,
)
from contracts.certificates import SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.events import AdminEvent, AdminReset, AdminRotated, AdminUpgraded
from contracts.messages import Command
from contracts.principal import Principal, PrincipalKind
from contracts.registry import AdminBundle, ResetAdmin
from services.registry import admin, bundles
from services.registry.admin import Claimed
from services.registry.domain.agents import check_csr_size
from services.registry.domain.permissions import OPERATOR, authorise
from services.registry.identity import admit, require_initialised
from services.registry.issuance import undone_on_failure
from services.registry.service import Registry
from services.registry.store import admin_certificates, platform
from shared import idempotency
from shared.database import Connection
from shared.unit_of_work import UnitOfWork
from shared.x509 import parse_csr

Judge = Callable[[Connection], Awaitable[Principal]]
"""Returns who asks, or raises why they may not: once before the claim, once with the record."""


async def reset_admin(command: ResetAdmin, registry: Registry) -> AdminBundle:
    """Make a new PKCS#12 administrator on the operator's word, whatever state the old one is in."""

    async def judge(connection: Connection) -> Principal:
        await require_initialised(connection)
        authorise(OPERATOR, command)
        return OPERATOR

    actor, claimed = await _claim(command, registry, judge)
    async with undone_on_failure(registry, claimed.claim_id):
        made = await admin.generate(registry, command.call, actor, claimed)
        async with registry.runtime.unit_of_work(command) as work:
            await platform.lock(work.connection)
            superseded = await admin.record(
                registry, work.connection, claimed.claim_id, made, actor, work.request_id
            )
            _tell(work, actor, "admin_reset", AdminReset, made.certificate, superseded)
            reply = await work.answer(admin.shown_once(made), secret=True)
    registry.to_tell.set()
    return reply


async def rotate_admin(command: RotateAdmin, registry: Registry) -> RotatedAdmin:
    """Make a new PKCS#12 administrator; the old one may fetch its bundle once."""

    async def judge(connection: Connection) -> Principal:
        actor = await admit(registry, connection, command)
        await _require_pkcs12(connection, actor)
        return actor

    actor, claimed = await _claim(command, registry, judge)
    async with undone_on_failure(registry, claimed.claim_id):
        made = await admin.generate(registry, command.call, actor, claimed)
        async with registry.runtime.unit_of_work(command) as work:
            await platform.lock(work.connection)
            actor = await judge(work.connection)
            superseded = await admin.record(
                registry, work.connection, claimed.claim_id, made, actor, work.request_id
            )
            assert superseded is not None  # noqa: S101 - it was just judged
            await admin_certificates.grant_download(
                work.connection, superseded, made.certificate.fingerprint
            )
            _tell(work, actor, "admin_rotate", AdminRotated, made.certificate, superseded)
            rotated = RotatedAdmin(
                p12_password=made.password, expires_at=made.certificate.not_after
            )
            reply = await work.answer(rotated, secret=True)
    registry.to_tell.set()
    return reply


async def upgrade_admin(command: UpgradeAdmin, registry: Registry) -> UpgradedAdmin:
    """Sign the administrator's own key: from now on there is no bundle."""
    check_csr_size(command.csr_pem)

    async def judge(connection: Connection) -> Principal:
        actor = await admit(registry, connection, command)
        parse_csr(command.csr_pem)
        if await platform.auth_mode(connection) is not AdminAuthMode.P12:
            raise CertwireError(
                ErrorCode.CONFLICT,
                "Admin is already using hardware-bound authentication",
                actor=actor,
            )
        return actor

    actor, claimed = await _claim(command, registry, judge)
    async with undone_on_failure(registry, claimed.claim_id):
        certificate = await admin.sign(registry, command.call, actor, claimed, command.csr_pem)
        ca_pem = await registry.platform_cas.pem(command.call)
        async with registry.runtime.unit_of_work(command) as work:
            await platform.lock(work.connection)
            actor = await judge(work.connection)
            superseded = await admin.record(
                registry, work.connection, claimed.claim_id, certificate, actor, work.request_id
            )
            _tell(work, actor, "admin_upgrade", AdminUpgraded, certificate, superseded)
            reply = await work.answer(UpgradedAdmin(certificate=certificate, ca_pem=ca_pem))
    registry.to_tell.set()
    return reply


async def _claim(
    command: Command[AdminBundle] | AdminCommand[RotatedAdmin] | AdminCommand[UpgradedAdmin],
    registry: Registry,
    judge: Judge,
) -> tuple[Principal, Claimed]:
    """Return who asks, with the claim that was committed for them."""
    async with registry.runtime.database.transaction() as connection:
        if command.call.idempotency is not None:
            await idempotency.refuse_or_answer(connection, command.call.idempotency)
        return await judge(connection), await admin.claim(connection, command.call)


def _tell(
    work: UnitOfWork,
    actor: Principal,
    action: str,
    event: type[AdminEvent],
    certificate: SignedCertificate,
    superseded: str | None,
) -> None:
    work.record(
        actor,
        action,
        admin.ADMIN,
        event=event(fingerprint=certificate.fingerprint, serial_hex=certificate.serial_hex),
        detail={"fingerprint": certificate.fingerprint, "superseded": superseded},
    )


async def download_admin_bundle(command: DownloadAdminBundle, registry: Registry) -> Bundle:
    """Return the current bundle: to the administrator, or once to the one that was rotated."""
    async with registry.runtime.unit_of_work(command) as work:
        granted = await _use_grant(work.connection, command)
        actor = granted or await admit(registry, work.connection, command)
        await _require_pkcs12(work.connection, actor)
        sealed = await admin_certificates.bundle(work.connection)
        if sealed is None:
            raise CertwireError(ErrorCode.NOT_FOUND, "No client certificate found", actor=actor)
        pkcs12 = bundles.unseal(registry.sealer, bundles.ADMIN_TABLE, sealed, legacy=command.legacy)
        work.record(
            actor,
            "admin_download",
            admin.ADMIN,
            detail={
                "fingerprint": sealed.fingerprint,
                "format": "legacy" if command.legacy else "pkcs12",
                "granted": granted is not None,
            },
        )
        return await work.answer(Bundle(pkcs12=pkcs12), secret=True)


async def _use_grant(connection: Connection, command: DownloadAdminBundle) -> Principal | None:
    """Return the superseded administrator that a rotation's grant was for."""
    if command.credential is None:
        return None
    fingerprint = command.credential.sha256
    if not await admin_certificates.use_grant(connection, fingerprint):
        return None
    return Principal(kind=PrincipalKind.ADMIN, id="admin", name="admin", fingerprint=fingerprint)


async def _require_pkcs12(connection: Connection, actor: Principal) -> None:
    if await platform.auth_mode(connection) is not AdminAuthMode.P12:
        raise CertwireError(
            ErrorCode.GONE, "the administrator's key is hardware-bound", actor=actor
        )


async def get_auth_mode(command: GetAuthMode, registry: Registry) -> AuthMode:
    """Say where the administrator's key is."""
    async with registry.runtime.database.connection() as connection:
        await admit(registry, connection, command)
        return AuthMode(mode=await platform.auth_mode(connection))


async def get_mtls_certificates(
    command: GetMtlsCertificates, registry: Registry
) -> MtlsCertificates:
    """Say when the issuing CA and the administrator's certificate end."""
    async with registry.runtime.database.connection() as connection:
        await admit(registry, connection, command)
        admin_expires_at = await admin_certificates.current_ends(connection)
    return MtlsCertificates(
        ca_expires_at=await registry.platform_cas.issuing_ends(command.call),
        admin_expires_at=admin_expires_at,
    )
