"""Which certificates end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.database import Connection
from shared.expiry import Mark


@dataclass(frozen=True, slots=True)
class EndingRow:
    """What is told of a certificate that ends."""

    id: int
    fingerprint: str
    serial_hex: str
    kind: str
    owner_id: str
    issuer: str
    subject: str
    organization_id: int | None
    not_after: datetime


# Of what is issued for fewer days than that, nobody has to be told so many days ahead.
ENDING: Final = """
SELECT certificate.id, certificate.fingerprint, serial_hex, certificate.kind, owner_id,
    ca.subject AS issuer, certificate.subject, certificate.organization_id, certificate.not_after
FROM certificate JOIN ca ON ca.id = certificate.ca_id
WHERE (certificate.not_after, certificate.id) > ($1, $2) AND certificate.not_after <= $3
    AND certificate.kind <> 'instance' AND certificate.kind = ANY($4::text[])
    AND revoked_at IS NULL
    AND certificate.not_after - certificate.created_at > make_interval(days => $5)
ORDER BY certificate.not_after, certificate.id LIMIT $6
"""


async def ending(
    connection: Connection,
    mark: Mark,
    until: datetime,
    kinds: Sequence[str],
    days: int,
    limit: int,
) -> list[EndingRow]:
    """Return certificates after the mark that end by then, in order; no revoked ones."""
    rows = await connection.fetch(ENDING, mark.until, mark.id, until, kinds, days, limit)
    return [EndingRow(*row) for row in rows]
