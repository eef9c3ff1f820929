"""Which certificates end."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.database import Connection
from shared.expiry import Mark


@dataclass(frozen=True, slots=True)
class EndingRow:
    """What is told of a certificate that ends."""

    id: int
    project_id: str
    domain: str
    type: str
    fingerprint: str
    serial_hex: str
    issuer: str
    subject: str
    not_after: datetime


# Of what is issued for fewer days than that, nobody has to be told so many days ahead.
ENDING: Final = """
SELECT id, project_id, domain, type, fingerprint, serial_hex, issuer, subject, not_after
FROM certificate
WHERE (not_after, id) > ($1, $2) AND not_after <= $3 AND NOT staging AND revoked_at IS NULL
    AND not_after - not_before > make_interval(days => $4)
ORDER BY not_after, id LIMIT $5
"""


async def ending(
    connection: Connection, mark: Mark, until: datetime, days: int, limit: int
) -> list[EndingRow]:
    """Return certificates after the mark that end by then, in order; none revoked or staging's."""
    rows = await connection.fetch(ENDING, mark.until, mark.id, until, days, limit)
    return [EndingRow(*row) for row in rows]
