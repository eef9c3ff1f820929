"""What administrators and orchestrators do with instances."""

import json
import secrets
from typing import Final
from uuid import UUID, uuid4

from contracts.audit import Actor, AuditObject
from contracts.certificates import RevocationReason
from contracts.errors import CertwireError, ErrorCode
from contracts.events import (
    InstanceCreated,
    InstanceEvent,
    InstanceSecretsChanged,
    InstanceStarted,
    InstanceStopped,
    InstanceTerminated,
)
from contracts.instance import (
    BootstrapToken,
    CreateBootstrapToken,
    CreatedInstance,
    CreateInstance,
    GetInstance,
    Instance,
    InstancePage,
    InstanceStatus,
    InventoryPage,
    ListInstanceCertificates,
    ListInstances,
    PutSecrets,
    RevokedCertificate,
    RevokeInstanceCertificate,
    SetInstanceStatus,
)
from contracts.messages import Done
from contracts.principal import Principal
from services.instance.domain import wireguard
from services.instance.domain.permissions import require_administrator
from services.instance.domain.status import MAY_BOOTSTRAP, moves
from services.instance.service import Instances
from services.instance.store import instances as store
from services.instance.store import renewals
from services.instance.store.sealed import SECRETS
from shared import cursors
from shared.database import Connection
from shared.secrets import token_hash
from shared.unit_of_work import UnitOfWork

TOKEN_BYTES: Final = 32
"""256 random bits (the rulings')."""
_STATUS_EVENTS: Final[dict[InstanceStatus, type[InstanceEvent]]] = {
    InstanceStatus.RUNNING: InstanceStarted,
    InstanceStatus.STOPPED: InstanceStopped,
    InstanceStatus.TERMINATED: InstanceTerminated,
}


async def create_instance(command: CreateInstance, instances: Instances) -> CreatedInstance:
    """Register a pending instance and make its bootstrap token."""
    require_administrator(command.principal)
    key = wireguard.decode(command.wg_public_key)
    if key is None:
        raise CertwireError(ErrorCode.INVALID_REQUEST, "wg_public_key is not a WireGuard key")
    instance_id = uuid4()
    async with instances.runtime.unit_of_work(command) as work:
        instance = await store.insert(
            work.connection,
            instance_id,
            command.name,
            key,
            command.vpn_ip,
            seal_secrets(instances, instance_id, command.agent_secrets),
        )
        bootstrap = await _new_token(work.connection, instance_id)
        work.record(
            command.principal,
            "instance_create",
            audit_object(instance),
            event=_event(InstanceCreated, instance),
        )
        return await work.answer(
            CreatedInstance(instance=instance, bootstrap=bootstrap), secret=True
        )


async def list_instances(command: ListInstances, instances: Instances) -> InstancePage:
    """Return a page of instances in the order of their creation."""
    require_administrator(command.principal)
    after = cursors.decode(command.cursor)
    async with instances.runtime.database.connection() as connection:
        found, following = await store.page(connection, command.limit, after)
    return InstancePage(instances=tuple(found), next_cursor=cursors.encode(following))


async def get_instance(command: GetInstance, instances: Instances) -> Instance:
    """Return one instance."""
    require_administrator(command.principal)
    async with instances.runtime.database.connection() as connection:
        return await _known(connection, command.instance_id)


async def set_instance_status(command: SetInstanceStatus, instances: Instances) -> Instance:
    """Move an instance along the status machine."""
    require_administrator(command.principal)
    async with instances.runtime.unit_of_work(command) as work:
        instance = await move(work, command.principal, command.instance_id, command.status)
        return await work.answer(instance)


async def move(
    work: UnitOfWork, actor: Principal, instance_id: UUID, status: InstanceStatus
) -> Instance:
    """Set the status; a terminated instance loses certificate, claim and tokens."""
    before = await _known(work.connection, instance_id, lock=True)
    if not moves(before.status, status):
        return before
    await store.set_status(work.connection, instance_id, status)
    instance = before.model_copy(update={"status": status})
    if status is InstanceStatus.TERMINATED:
        await _revoke(work, actor, instance, RevocationReason.CESSATION_OF_OPERATION, "terminated")
        await store.spend_tokens(work.connection, instance_id)
    work.record(
        actor,
        "instance_set_status",
        audit_object(instance),
        event=_event(_STATUS_EVENTS[status], instance),
        detail={"from": before.status, "to": status},
    )
    return instance


async def put_secrets(command: PutSecrets, instances: Instances) -> Done:
    """Replace the instance's secrets."""
    require_administrator(command.principal)
    async with instances.runtime.unit_of_work(command) as work:
        instance = await _known(work.connection, command.instance_id, lock=True)
        sealed = seal_secrets(instances, instance.id, command.agent_secrets)
        await store.put_secrets(work.connection, instance.id, sealed)
        work.record(
            command.principal,
            "instance_put_secrets",
            audit_object(instance),
            event=_event(InstanceSecretsChanged, instance),
        )
        return await work.answer(Done())


async def create_bootstrap_token(
    command: CreateBootstrapToken, instances: Instances
) -> BootstrapToken:
    """Make a new token; those before it are worthless from now on."""
    require_administrator(command.principal)
    async with instances.runtime.unit_of_work(command) as work:
        instance = await _known(work.connection, command.instance_id, lock=True)
        if instance.status not in MAY_BOOTSTRAP:
            raise CertwireError(ErrorCode.INSTANCE_NOT_RUNNING, "Instance not running")
        token = await _new_token(work.connection, instance.id)
        work.record(command.principal, "bootstrap_token_create", audit_object(instance))
        return await work.answer(token, secret=True)


async def list_instance_certificates(
    command: ListInstanceCertificates, instances: Instances
) -> InventoryPage:
    """Return a page of the instance's certificates, newest first."""
    require_administrator(command.principal)
    before = cursors.decode(command.cursor)
    async with instances.runtime.database.connection() as connection:
        await _known(connection, command.instance_id)
        found, following = await store.inventory(
            connection, command.instance_id, command.limit, before
        )
    return InventoryPage(certificates=tuple(found), next_cursor=cursors.encode(following))


async def revoke_instance_certificate(
    command: RevokeInstanceCertificate, instances: Instances
) -> RevokedCertificate:
    """Revoke the instance's current certificate; its commit is the barrier."""
    require_administrator(command.principal)
    async with instances.runtime.unit_of_work(command) as work:
        instance = await _known(work.connection, command.instance_id, lock=True)
        revoked = await _revoke(
            work, command.principal, instance, RevocationReason.UNSPECIFIED, command.reason or ""
        )
        if revoked is None:
            raise CertwireError(ErrorCode.NOT_FOUND, "the instance has no certificate")
        return await work.answer(
            RevokedCertificate(serial_hex=revoked.serial_hex, revoked_at=revoked.revoked_at)
        )


async def _revoke(
    work: UnitOfWork, actor: Principal, instance: Instance, reason: RevocationReason, detail: str
) -> store.Revoked | None:
    """Void a renewal under way and revoke the current certificate; the row is locked."""
    pending = await renewals.pending_claim(work.connection, instance.id)
    if pending is not None:
        await renewals.void(work.connection, [(instance.id, pending)])
    revoked = await store.revoke_current(
        work.connection,
        instance.id,
        reason,
        detail,
        Actor.of(actor).model_dump_json(),
        work.request_id,
    )
    if revoked is not None:
        work.record(
            actor,
            "cert_revoke",
            AuditObject(type="certificate", id=revoked.fingerprint, name=revoked.serial_hex),
            detail={"instance_id": str(instance.id), "reason": detail},
        )
    return revoked


async def _known(connection: Connection, instance_id: UUID, *, lock: bool = False) -> Instance:
    instance = await store.get(connection, instance_id, lock=lock)
    if instance is None:
        raise CertwireError(ErrorCode.NOT_FOUND, "Instance not found")
    return instance


async def _new_token(connection: Connection, instance_id: UUID) -> BootstrapToken:
    token = secrets.token_hex(TOKEN_BYTES)  # never like an option of a command line
    expires = await store.replace_tokens(connection, instance_id, token_hash(token))
    return BootstrapToken(token=token, expires_at=expires)


def seal_secrets(instances: Instances, instance_id: UUID, values: object) -> bytes:
    """Return the secrets as they are stored."""
    return instances.sealer.seal(json.dumps(values).encode(), secrets_row(instance_id))


def secrets_row(instance_id: UUID) -> str:
    """Return the name that binds sealed secrets to their row."""
    return SECRETS.row(instance_id)


def audit_object(instance: Instance) -> AuditObject:
    """Return the instance as an audit record names it."""
    return AuditObject(type="instance", id=str(instance.id), name=instance.name)


def _event(event: type[InstanceEvent], instance: Instance) -> InstanceEvent:
    return event(instance_id=instance.id, name=instance.name, status=instance.status)
