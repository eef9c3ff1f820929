"""What the audit service answers."""

from contracts.audit_log import KeptRecords, ListAuditRecords
from services.audit import store
from services.audit.domain.permissions import readable_organization
from services.audit.service import Audit
from shared.database import plan_for_arguments


async def list_audit_records(command: ListAuditRecords, audit: Audit) -> KeptRecords:
    """List records that the actor may see."""
    organization_id = readable_organization(command.actor)
    await audit.barrier.wait()
    async with audit.runtime.database.transaction() as connection:
        await plan_for_arguments(connection)
        return KeptRecords(records=await store.log(connection, command, organization_id))
