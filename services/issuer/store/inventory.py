"""Searches among all certificates."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Final

from services.issuer.store.certificates import Kept
from shared.database import Connection


@dataclass(frozen=True, slots=True)
class Search:
    """Who looks for what; None is no condition. The order of the fields is the query's.

    `common_name` is whole, `common_name_like` a pattern; `names` are alternatives, and
    `instance_common_name` that of the instance that one of them names; ends include the moment
    itself. The page has at most `limit` certificates, and ends with the one that makes it longer
    than `octets` in DER. With `by_end` all that ends in the range is looked through, rather than
    the newest until the page is full: what ends soon is old.
    """

    everything: bool
    of_organization_id: int | None
    of_user_id: int
    below_id: int | None
    common_name: str | None
    common_name_like: str | None
    names: Sequence[str] | None
    serial_hex: str | None
    fingerprint: str | None
    is_revoked: bool | None
    kind: str | None
    ca_id: int | None
    organization_id: int | None
    ends_from: datetime | None
    ends_until: datetime | None
    limit: int
    octets: int
    instance_common_name: str | None
    by_end: bool


# Conditions that are not made are NULL, and gone once the statement is planned for its arguments;
# so are the parts of what is visible that the user has no use for. Each part is read no further
# than the page goes. A serial is looked up at each CA, which has an index; names are looked up
# before everything else, as Postgres has no idea how rare they are.
_MEETS_ALL: Final = """
    ($4::bigint IS NULL OR id < $4)
    AND ($5::text IS NULL OR lower(common_name) = lower($5))
    AND ($6::text IS NULL OR lower(common_name) LIKE lower($6))
    AND ($7::text[] IS NULL OR id = ANY (ARRAY(
        SELECT id FROM certificate WHERE kind <> 'instance' AND subject_alternative_names && $7
        UNION ALL
        SELECT id FROM certificate WHERE kind = 'instance' AND subject_alternative_names && $7
            AND lower(common_name) = $18)))
    AND ($8::text IS NULL OR serial_hex = $8 AND ca_id = ANY (ARRAY(SELECT id FROM ca)))
    AND ($9::text IS NULL OR fingerprint = $9)
    AND ($10::boolean IS NULL
        OR CASE WHEN $10 THEN revoked_at IS NOT NULL ELSE revoked_at IS NULL END)
    AND ($11::text IS NULL OR kind = $11)
    AND ($12::bigint IS NULL OR ca_id = $12)
    AND ($13::bigint IS NULL OR organization_id = $13)
    AND ($14::timestamptz IS NULL OR not_after >= $14)
    AND ($15::timestamptz IS NULL OR not_after <= $15)
    ORDER BY CASE WHEN $19 THEN id + 0 ELSE id END DESC LIMIT $16 + 1
"""
SEARCH: Final = f"""
SELECT id, ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, common_name, subject,
    subject_alternative_names, certificate, not_before, not_after, created_at, revoked_at,
    revocation_reason, revocation_detail, organization_id, created_by_user_id, for_ca_id, found
FROM (
    SELECT *, count(*) OVER () AS found,
        sum(octet_length(certificate)) OVER (ORDER BY id DESC ROWS UNBOUNDED PRECEDING)
            - octet_length(certificate) AS octets_before
    FROM (
        (SELECT * FROM certificate WHERE $1 AND {_MEETS_ALL})
        UNION ALL
        (SELECT * FROM certificate WHERE NOT $1 AND organization_id = $2 AND {_MEETS_ALL})
        UNION ALL
        (SELECT * FROM certificate WHERE NOT $1 AND created_by_user_id = $3
            AND (organization_id = $2) IS NOT TRUE AND {_MEETS_ALL})
        ORDER BY id DESC LIMIT $16 + 1
    ) AS page
) AS measured
WHERE octets_before <= $17
ORDER BY id DESC LIMIT $16
"""  # noqa: S608 - put together from constants


async def search(connection: Connection, asked: Search) -> tuple[list[Kept], bool]:
    """Return a page of certificates, the newest first, and whether there are more."""
    rows = await connection.fetch(SEARCH, *astuple(asked))
    found = [Kept(*columns) for *columns, _ in rows]
    return found, bool(rows) and rows[0]["found"] > len(rows)
