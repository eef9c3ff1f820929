"""Where users belong, for other services."""

from contracts.users import GetMembership, Membership
from services.registry.service import Registry
from services.registry.store import users


async def get_membership(command: GetMembership, registry: Registry) -> Membership:
    """Return the organisation of a user."""
    async with registry.runtime.database.connection() as connection:
        user = await users.find(connection, command.user_id)
    return Membership(organization_id=user.organization_id if user is not None else None)
