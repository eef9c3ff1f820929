"""Whose certificate it is, for what any certificate of the platform may ask."""

from contracts.instance import ResolvedInstance, ResolveInstance
from services.instance.service import Instances
from services.instance.store import instances as store


async def resolve_instance(command: ResolveInstance, instances: Instances) -> ResolvedInstance:
    """Return the instance whose current certificate this is now."""
    async with instances.runtime.database.connection() as connection:
        principal = await store.owner(connection, command.credential.sha256)
    return ResolvedInstance(principal=principal)
