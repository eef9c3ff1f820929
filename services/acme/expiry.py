"""Which certificates of projects are announced as they end, wherever they come from.

One that is renewed in time gives its place to another, so that nothing is said of it any more.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from contracts.acme import CertificateType
from contracts.audit import AuditObject
from contracts.certificates import CertificateKind
from services.acme.store import expiring
from services.acme.store.expiring import EndingRow
from shared.database import Connection
from shared.expiry import Ending, Mark

KINDS: Final = {
    CertificateType.LETSENCRYPT: CertificateKind.ACME,
    CertificateType.CUSTOM: CertificateKind.UPLOADED,
}


async def ending(
    connection: Connection, mark: Mark, until: datetime, days: int, limit: int
) -> Sequence[Ending]:
    """Return certificates after the mark that end by then, as `shared.expiry` asks for them."""
    rows = await expiring.ending(connection, mark, until, days, limit)
    return [_described(row) for row in rows]


def _described(row: EndingRow) -> Ending:
    return Ending(
        id=row.id,
        not_after=row.not_after,
        fingerprint=row.fingerprint,
        serial_hex=row.serial_hex,
        kind=KINDS[CertificateType(row.type)],
        owner=row.project_id,
        issuer=row.issuer,
        subject=row.subject,
        object=AuditObject(type="certificate", id=row.fingerprint, name=row.domain),
    )
