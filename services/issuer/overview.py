"""What `certwire ca list` and `certwire ca show` print."""

from contracts.subjects import Service
from services.issuer import store
from services.issuer.settings import IssuerSettings
from services.issuer.store import Ca
from shared.database import Database


async def platform_cas(settings: IssuerSettings) -> list[Ca]:
    """Return the platform's CAs, the root first; logs in as the issuer's role."""
    database = await Database.open(settings, Service.ISSUER)
    try:
        async with database.connection() as connection:
            return await store.platform_cas(connection)
    finally:
        await database.close()
