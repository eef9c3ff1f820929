"""What users may do with one CA beside what their role and flags allow."""

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Done
from contracts.pki import Capability, DeleteGrant, Grant, GrantList, ListGrants, PutGrant
from services.issuer.handlers.cas import found
from services.issuer.hierarchy import audited, check_is_a_users
from services.issuer.service import Issuer
from services.issuer.store import grants
from services.issuer.store.grants import Granted


async def list_grants(command: ListGrants, issuer: Issuer) -> GrantList:
    """Return a page of what has been granted on a CA."""
    async with issuer.runtime.database.connection() as connection:
        ca = await found(connection, command)
        rows = await grants.of_ca(connection, ca.id, skip=command.skip, limit=command.limit)
    return GrantList(grants=tuple(map(_grant, rows)))


async def put_grant(command: PutGrant, issuer: Issuer) -> Grant:
    """Grant a user of the CA's organisation exactly these capabilities."""
    async with issuer.runtime.unit_of_work(command) as work:
        ca = await found(work.connection, command, lock=True)
        check_is_a_users(ca)
        if ca.organization_id is None or ca.organization_id != command.user_organization_id:
            raise CertwireError(
                ErrorCode.NOT_FOUND, f"User {command.user_id} is not in the CA's organization"
            )
        capabilities = sorted(set(command.capabilities))
        row = await grants.put(work.connection, ca.id, command.user_id, capabilities)
        work.record(
            command.actor,
            "ca_grant_put",
            audited(ca),
            detail={"user_id": command.user_id, "capabilities": list(capabilities)},
        )
        return await work.answer(_grant(row))


async def delete_grant(command: DeleteGrant, issuer: Issuer) -> Done:
    """Take back what was granted to a user."""
    async with issuer.runtime.unit_of_work(command) as work:
        ca = await found(work.connection, command, lock=True)
        if not await grants.delete(work.connection, ca.id, command.user_id):
            raise CertwireError(ErrorCode.NOT_FOUND, f"User {command.user_id} has no grant here")
        work.record(
            command.actor, "ca_grant_delete", audited(ca), detail={"user_id": command.user_id}
        )
        return await work.answer(Done())


def _grant(row: Granted) -> Grant:
    return Grant(
        ca_id=row.ca_id,
        user_id=row.user_id,
        capabilities=tuple(map(Capability, row.capabilities)),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
