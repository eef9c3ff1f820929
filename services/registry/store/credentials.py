"""Who credentials stand for: one query for many, on the way of every administrator's request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from contracts.principal import Credential, Principal, PrincipalKind
from services.registry.store.sessions import principal_of_user
from shared.database import Connection

RESOLVE: Final = """
SELECT certificate.fingerprint,
    certificate.state = 'current' AND now() BETWEEN certificate.not_before
        AND certificate.not_after AS certificate_accepted,
    users.id, username, role, organization_id, can_create_ca, can_create_cert, can_revoke_cert,
    can_export_private_key, can_delete_ca,
    session.revoked_at IS NULL AND session.access_expires_at > now() AND users.is_active
        AS session_accepted
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (kind, sha256, place)
LEFT JOIN admin_certificate AS certificate
    ON asked.kind = 'certificate' AND certificate.fingerprint = asked.sha256
LEFT JOIN session ON asked.kind = 'bearer' AND session.access_hash = asked.sha256
LEFT JOIN users ON users.id = session.user_id
ORDER BY place
"""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Whose credential it is, None where it is unknown; and whether it counts now."""

    principal: Principal | None
    accepted: bool


UNKNOWN: Final = Resolved(None, accepted=False)


async def resolve(connection: Connection, credentials: Sequence[Credential]) -> list[Resolved]:
    """Return who each credential stands for, in order."""
    rows = await connection.fetch(
        RESOLVE,
        [credential.kind for credential in credentials],
        [credential.sha256 for credential in credentials],
    )
    return [_resolved(row) for row in rows]


def _resolved(row: asyncpg.Record) -> Resolved:
    if row["fingerprint"] is not None:
        admin = Principal(
            kind=PrincipalKind.ADMIN, id="admin", name="admin", fingerprint=row["fingerprint"]
        )
        return Resolved(admin, row["certificate_accepted"])
    if row["id"] is not None:
        return Resolved(principal_of_user(row), row["session_accepted"])
    return UNKNOWN
