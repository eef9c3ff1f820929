"""Certificate authorities of users.

Checks come in this order: what is asked for makes sense, the CA is there, the actor may, the CA is
a user's and in the state for it. The platform's own CAs are shown to superusers, and that is all.
"""

import time
from typing import Any, Final

from contracts.errors import CertwireError, ErrorCode
from contracts.events import CaDeleted, CaRetired, CaRotated
from contracts.messages import Done
from contracts.pki import (
    CaCommand,
    CaList,
    CaState,
    CaView,
    CaWithKey,
    CreateCa,
    DeleteCa,
    GetCa,
    GetCaChain,
    GetCaPrivateKey,
    ListCaChildren,
    ListCas,
    RetireCa,
    RotateCa,
)
from contracts.principal import Principal, Role
from services.issuer import hierarchy, keys
from services.issuer.domain import authorities, distinguished_names, name_constraints
from services.issuer.domain.permissions import (
    ACTIONS,
    Action,
    Object,
    authorise,
    authorise_root,
    user_id,
)
from services.issuer.hierarchy import Plan, audited, check_in_use, check_is_a_users, view
from services.issuer.keys import PrivateKey
from services.issuer.service import Issuer
from services.issuer.store import cas, grants
from services.issuer.store.cas import Ca
from shared import idempotency
from shared.clock import utc_now
from shared.database import Connection

RSA_BITS: Final = 4096
"""Of a CA's key, where nothing is said of it: the ruling's."""


async def create_ca(command: CreateCa, issuer: Issuer) -> CaWithKey:
    """Make a CA.

    1. What is refused, or was done before, costs no key.
    2. The key is made while no transaction is open: RSA takes its time.
    3. With the CA above locked, everything is decided again, by what is true then.
    """
    algorithm = keys.key_spec(command.key_type, command.key_size, RSA_BITS)
    async with issuer.runtime.database.connection() as connection:  # 1
        if command.call.idempotency is not None:
            await idempotency.refuse_or_answer(connection, command.call.idempotency)
        await _planned(connection, command)
    key = await issuer.key_backends.make(algorithm)  # 2
    if command.call.deadline < time.time():
        raise CertwireError(ErrorCode.OUTCOME_UNKNOWN)
    async with issuer.runtime.unit_of_work(command) as work:  # 3
        plan = await _planned(work.connection, command, lock=True)
        ca = await hierarchy.make(work, issuer, plan, key, command.actor, command.call)
        private_key_pem = None if key.exportable is None else keys.to_pem(key.exportable)
        made = CaWithKey(ca=view(ca), private_key_pem=private_key_pem)
        return await work.answer(made, secret=True)


async def list_cas(command: ListCas, issuer: Issuer) -> CaList:
    """Return a page of the CAs that the actor may see."""
    actor, skip, limit = command.actor, command.skip, command.limit
    user, organization_id = user_id(actor), actor.organization_id
    async with issuer.runtime.database.connection() as connection:
        if actor.role is Role.SUPERUSER:
            return _list(await cas.listed(connection, skip=skip, limit=limit))
        return _list(
            await cas.listed_for(connection, organization_id, user, skip=skip, limit=limit)
        )


async def get_ca(command: GetCa, issuer: Issuer) -> CaView:
    """Return one CA."""
    async with issuer.runtime.database.connection() as connection:
        return view(await found(connection, command))


async def get_ca_chain(command: GetCaChain, issuer: Issuer) -> CaList:
    """Return a CA and those above it."""
    async with issuer.runtime.database.connection() as connection:
        ca = await found(connection, command)
        return _list(await cas.chain(connection, ca.id))


async def list_ca_children(command: ListCaChildren, issuer: Issuer) -> CaList:
    """Return a page of the CAs directly below one."""
    async with issuer.runtime.database.connection() as connection:
        ca = await found(connection, command)
        skip, limit = command.skip, command.limit
        return _list(await cas.children(connection, ca.id, skip=skip, limit=limit))


async def get_ca_private_key(command: GetCaPrivateKey, issuer: Issuer) -> CaWithKey:
    """Return a CA with its private key, which is recorded."""
    async with issuer.runtime.unit_of_work(command) as work:
        ca = await found(work.connection, command)
        check_is_a_users(ca)
        key = issuer.authorities.key(ca)
        if not isinstance(key, PrivateKey):
            raise CertwireError(ErrorCode.CONFLICT, f"The key of CA {ca.id} stays in its token")
        private_key_pem = keys.to_pem(key)
        work.record(command.actor, "ca_export_private_key", audited(ca))
        exported = CaWithKey(ca=view(ca), private_key_pem=private_key_pem)
        return await work.answer(exported, secret=True)


async def delete_ca(command: DeleteCa, issuer: Issuer) -> Done:
    """Take a CA out of use and out of sight; its certificates and revocations stay."""
    async with issuer.runtime.unit_of_work(command) as work:
        ca = await found(work.connection, command, lock=True)
        check_is_a_users(ca)
        count = await cas.count_children(work.connection, ca.id)
        if count:
            raise CertwireError(
                ErrorCode.CONFLICT, f"CA {ca.id} has {count} child CA(s) and cannot be deleted"
            )
        await cas.set_state(work.connection, ca.id, CaState.DELETED)
        work.record(command.actor, "ca_delete", audited(ca), event=CaDeleted(**_facts(ca)))
        return await work.answer(Done())


async def retire_ca(command: RetireCa, issuer: Issuer) -> CaView:
    """Let a CA sign nothing new."""
    async with issuer.runtime.unit_of_work(command) as work:
        ca = await found(work.connection, command, lock=True)
        check_is_a_users(ca)
        if ca.state != CaState.ACTIVE:
            raise CertwireError(ErrorCode.CONFLICT, f"CA {ca.id} is {ca.state}")
        await cas.set_state(work.connection, ca.id, CaState.RETIRED)
        work.record(command.actor, "ca_retire", audited(ca), event=CaRetired(**_facts(ca)))
        return await work.answer(view(await found(work.connection, command)))


async def rotate_ca(command: RotateCa, issuer: Issuer) -> CaView:
    """Make a CA like another with a new key, and retire that one; steps as in `create_ca`.

    It has the same CA above it, or what that was rotated to; the CAs below the old one stay there.
    """
    async with issuer.runtime.database.connection() as connection:
        if command.call.idempotency is not None:
            await idempotency.refuse_or_answer(connection, command.call.idempotency)
        old, _ = await _replanned(connection, command)
    key_type, key_size = authorities.key_facts(hierarchy.certificate_of(old).public_key())
    key = await issuer.key_backends.make(keys.key_spec(key_type, key_size, RSA_BITS))
    if command.call.deadline < time.time():
        raise CertwireError(ErrorCode.OUTCOME_UNKNOWN)
    async with issuer.runtime.unit_of_work(command) as work:
        old, plan = await _replanned(work.connection, command, lock=True)
        new = await hierarchy.make(work, issuer, plan, key, command.actor, command.call)
        await grants.copy(work.connection, old.id, new.id)
        await cas.set_state(work.connection, old.id, CaState.RETIRED, new.id)
        work.record(
            command.actor,
            "ca_rotate",
            audited(old),
            detail={"successor": new.id, "successor_fingerprint": new.fingerprint},
            event=CaRotated(
                **_facts(old), successor=new.slug, successor_fingerprint=new.fingerprint
            ),
        )
        work.record(command.actor, "ca_retire", audited(old), event=CaRetired(**_facts(old)))
        return await work.answer(view(new))


async def found(connection: Connection, command: CaCommand[Any], *, lock: bool = False) -> Ca:
    """Return the CA of a command. Raises `NOT_FOUND` and `FORBIDDEN`."""
    return await _permitted(
        connection, command.actor, command.ca_id, ACTIONS[type(command)], lock=lock
    )


async def _permitted(
    connection: Connection, actor: Principal, ca_id: int, action: Action, *, lock: bool
) -> Ca:
    user = user_id(actor)  # who is none is not told which CAs there are
    ca = await (cas.lock if lock else cas.find)(connection, ca_id)
    if ca is None:
        raise CertwireError(ErrorCode.NOT_FOUND, f"CA {ca_id} not found", actor=actor)
    granted = await grants.of_user(connection, ca.id, user)
    authorise(actor, action, Object(ca.organization_id, ca.created_by_user_id), granted)
    return ca


async def _planned(connection: Connection, command: CreateCa, *, lock: bool = False) -> Plan:
    actor, parent_id, asked = command.actor, command.parent_ca_id, command.path_length
    subject = distinguished_names.parse(command.subject_dn)
    above: list[Ca] = []
    if parent_id is None:
        authorise_root(actor)
        organization_id, path_length = actor.organization_id, asked
    else:
        action = ACTIONS[CreateCa]
        parent = await _permitted(connection, actor, parent_id, action, lock=lock)
        check_in_use(parent, utc_now())
        organization_id = parent.organization_id
        path_length = authorities.path_length_of(asked, parent.path_length)
        above = await cas.chain(connection, parent.id)
    return Plan(
        tuple(above),
        name=command.name,
        description=command.description,
        subject=subject,
        valid_days=command.valid_days,
        path_length=path_length,
        constraints=hierarchy.constraints_of(above, command.name_constraints),
        allow_leaf_certs=command.allow_leaf_certs,
        crl_base_url=command.crl_base_url,
        organization_id=organization_id,
        created_by_user_id=user_id(actor),
    ).checked()


async def _replanned(
    connection: Connection, command: RotateCa, *, lock: bool = False
) -> tuple[Ca, Plan]:
    """Return the CA that is to be replaced, and what by."""
    ca = await found(connection, command, lock=lock)
    check_is_a_users(ca)
    if ca.state != CaState.ACTIVE:
        raise CertwireError(ErrorCode.CONFLICT, f"CA {ca.id} is {ca.state}")
    above: list[Ca] = []
    if ca.parent_id is not None:
        parent = await cas.latest(connection, ca.parent_id)
        if lock:
            parent = await cas.lock(connection, parent.id) or parent
        check_in_use(parent, utc_now())
        above = await cas.chain(connection, parent.id)
    certificate = hierarchy.certificate_of(ca)
    plan = Plan(
        tuple(above),
        name=ca.name,
        description=ca.description,
        subject=certificate.subject,
        valid_days=ca.valid_days,
        path_length=ca.path_length,
        constraints=name_constraints.of(certificate),
        allow_leaf_certs=ca.allow_leaf_certs,
        crl_base_url=ca.crl_base_url,
        organization_id=ca.organization_id,
        created_by_user_id=ca.created_by_user_id or user_id(command.actor),
        has_had_children=ca.has_had_children,
    )
    return ca, plan


def _list(found: list[Ca]) -> CaList:
    return CaList(cas=tuple(map(view, found)))


def _facts(ca: Ca) -> dict[str, Any]:
    """Return what every event about a CA says."""
    return {
        "ca": ca.slug,
        "fingerprint": ca.fingerprint,
        "subject": ca.subject,
        "not_after": ca.not_after,
    }
