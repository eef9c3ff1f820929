"""Which of the issuer's certificates are announced as they end.

Revoked ones are not, nor those that live for a day: instances renew them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from contracts.audit import AuditObject
from contracts.certificates import CertificateKind
from services.issuer.domain.profiles import USER_KINDS
from services.issuer.store import expiring
from services.issuer.store.expiring import EndingRow
from shared.database import Connection
from shared.expiry import Ending, Mark

KINDS: Final = tuple(sorted({*USER_KINDS, CertificateKind.ROOT_CA, CertificateKind.ISSUING_CA}))
"""Users' certificates and CAs' own; the others' owners renew them."""


async def ending(
    connection: Connection, mark: Mark, until: datetime, days: int, limit: int
) -> Sequence[Ending]:
    """Return certificates after the mark that end by then, as `shared.expiry` asks for them."""
    rows = await expiring.ending(connection, mark, until, KINDS, days, limit)
    return [_described(row) for row in rows]


def _described(row: EndingRow) -> Ending:
    kind = CertificateKind(row.kind)
    return Ending(
        id=row.id,
        not_after=row.not_after,
        fingerprint=row.fingerprint,
        serial_hex=row.serial_hex,
        kind=kind,
        owner=row.owner_id,
        issuer=row.issuer,
        subject=row.subject,
        object=AuditObject(
            type="certificate",
            id=str(row.id) if kind in USER_KINDS else row.fingerprint,
            name=row.subject,
            organization_id=row.organization_id,
        ),
    )
