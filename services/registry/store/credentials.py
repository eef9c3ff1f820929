"""Who credentials stand for: one query for many, on the way of every administrator's request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from contracts.api_keys import KeyPermissions
from contracts.principal import Credential, Principal, PrincipalKind
from services.registry.domain.renewal import OVERLAP
from services.registry.store.api_keys import principal_of_key
from services.registry.store.sessions import principal_of_user
from shared.database import Connection

RESOLVE: Final = """
SELECT certificate.fingerprint,
    certificate.state = 'current' AND now() BETWEEN certificate.not_before
        AND certificate.not_after AS certificate_accepted,
    agent.id AS agent_id, label, capabilities, allowed_sites,
    held.fingerprint AS agent_fingerprint, held.predecessor,
    held.revoked_at IS NULL AND now() BETWEEN held.not_before AND held.not_after
        AND (held.superseded_at IS NULL OR held.superseded_at > now() - $3::interval)
        AS agent_accepted,
    users.id, username, role, organization_id, can_create_ca, can_create_cert, can_revoke_cert,
    can_export_private_key, can_delete_ca,
    session.revoked_at IS NULL AND session.access_expires_at > now() AND users.is_active
        AS session_accepted,
    api_key.id AS key_id, api_key.name AS key_name, projects, keys,
    api_key.deleted_at IS NULL AS key_accepted
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (kind, sha256, place)
LEFT JOIN admin_certificate AS certificate
    ON asked.kind = 'certificate' AND certificate.fingerprint = asked.sha256
LEFT JOIN agent_certificate AS held
    ON asked.kind = 'certificate' AND held.fingerprint = asked.sha256
LEFT JOIN agent ON agent.id = held.agent_id
LEFT JOIN session ON asked.kind = 'bearer' AND session.access_hash = asked.sha256
LEFT JOIN users ON users.id = session.user_id
LEFT JOIN api_key ON asked.kind IN ('bearer', 'api_key') AND api_key.hash = asked.sha256
ORDER BY place
"""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Whose credential it is, None where it is unknown; and whether it counts now.

    `predecessor` is the fingerprint of the certificate that ends with the first use of this one.
    """

    principal: Principal | None
    accepted: bool
    predecessor: str | None = None


UNKNOWN: Final = Resolved(None, accepted=False)


async def resolve(connection: Connection, credentials: Sequence[Credential]) -> list[Resolved]:
    """Return who each credential stands for, in order."""
    rows = await connection.fetch(
        RESOLVE,
        [credential.kind for credential in credentials],
        [credential.sha256 for credential in credentials],
        OVERLAP,
    )
    return [_resolved(row) for row in rows]


def _resolved(row: asyncpg.Record) -> Resolved:
    if row["fingerprint"] is not None:
        admin = Principal(
            kind=PrincipalKind.ADMIN, id="admin", name="admin", fingerprint=row["fingerprint"]
        )
        return Resolved(admin, row["certificate_accepted"])
    if row["agent_id"] is not None:
        agent = agent_principal(
            row["agent_id"],
            row["label"],
            row["agent_fingerprint"],
            row["capabilities"],
            row["allowed_sites"],
        )
        return Resolved(agent, row["agent_accepted"], row["predecessor"])
    if row["id"] is not None:
        return Resolved(principal_of_user(row), row["session_accepted"])
    if row["key_id"] is not None:
        permissions = KeyPermissions(projects=row["projects"], keys=row["keys"])
        key = principal_of_key(row["key_id"], row["key_name"], permissions)
        return Resolved(key, row["key_accepted"])
    return UNKNOWN


def agent_principal(
    agent_id: int,
    label: str,
    fingerprint: str,
    capabilities: Sequence[str] = (),
    allowed_sites: Sequence[str] = (),
) -> Principal:
    """Return the principal that an agent's certificate stands for."""
    return Principal(
        kind=PrincipalKind.AGENT,
        id=str(agent_id),
        name=label,
        fingerprint=fingerprint,
        capabilities=tuple(capabilities),
        allowed_sites=tuple(allowed_sites),
    )
