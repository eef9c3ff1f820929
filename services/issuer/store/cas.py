"""Certificate authorities."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime
from typing import Final

from shared.database import Connection


@dataclass(frozen=True, slots=True)
class Ca:
    """A row of `ca`; `certificate` is DER. Ids of users and organisations are the registry's."""

    id: int
    name: str
    slug: str
    kind: str
    state: str
    parent_id: int | None
    subject: str
    certificate: bytes = field(repr=False)
    fingerprint: str
    not_before: datetime
    not_after: datetime
    created_at: datetime
    updated_at: datetime
    valid_days: int
    path_length: int | None
    allow_leaf_certs: bool | None
    has_had_children: bool = False
    description: str | None = None
    organization_id: int | None = None
    created_by_user_id: int | None = None
    crl_base_url: str | None = None
    successor_id: int | None = None
    key_backend: str = "sealed"
    key_handle: bytes | None = field(default=None, repr=False)
    sealed_key: bytes | None = field(default=None, repr=False)

    @property
    def signs_leaves(self) -> bool:
        """Return whether it may sign what is no CA: unless said otherwise, until it has had one."""
        if self.allow_leaf_certs is None:
            return not self.has_had_children
        return self.allow_leaf_certs


PLATFORM_ROOT: Final = "platform_root"
PLATFORM_ISSUING: Final = "platform_issuing"
USER: Final = "user"
PLATFORM: Final = (PLATFORM_ROOT, PLATFORM_ISSUING)
ACTIVE: Final = "active"
RETIRED: Final = "retired"
FILE: Final = "file"
"""The key backend of a CA that is used by `certwire ca` alone."""
DELETED: Final = "deleted"

_PLATFORM_CAS: Final = """
SELECT id, name, slug, kind, state, parent_id, subject, certificate, fingerprint, not_before,
    not_after, created_at, updated_at, valid_days, path_length, allow_leaf_certs, has_had_children,
    description, organization_id, created_by_user_id, crl_base_url, successor_id, key_backend,
    key_handle, sealed_key
FROM ca WHERE kind IN ('platform_root', 'platform_issuing') ORDER BY kind DESC, id
"""
_BY_ID: Final = """
SELECT id, name, slug, kind, state, parent_id, subject, certificate, fingerprint, not_before,
    not_after, created_at, updated_at, valid_days, path_length, allow_leaf_certs, has_had_children,
    description, organization_id, created_by_user_id, crl_base_url, successor_id, key_backend,
    key_handle, sealed_key
FROM ca WHERE id = $1
"""
_BY_SLUG: Final = """
SELECT id, name, slug, kind, state, parent_id, subject, certificate, fingerprint, not_before,
    not_after, created_at, updated_at, valid_days, path_length, allow_leaf_certs, has_had_children,
    description, organization_id, created_by_user_id, crl_base_url, successor_id, key_backend,
    key_handle, sealed_key
FROM ca WHERE slug = $1
"""
_LOCK_CREATION: Final = "SELECT pg_advisory_xact_lock(hashtext('issuer.ca'))"
_NEXT_CA_ID: Final = "SELECT nextval(pg_get_serial_sequence('ca', 'id'))"
_NEXT_CERTIFICATE_ID: Final = "SELECT nextval(pg_get_serial_sequence('certificate', 'id'))"
_INSERT_CA: Final = """
INSERT INTO ca (id, name, slug, kind, state, parent_id, subject, certificate, fingerprint,
    not_before, not_after, created_at, updated_at, valid_days, path_length, allow_leaf_certs,
    has_had_children, description, organization_id, created_by_user_id, crl_base_url, successor_id,
    key_backend, key_handle, sealed_key)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25)
"""


async def platform_cas(connection: Connection) -> list[Ca]:
    """Return the platform's CAs, retired ones included: the root first, then by age."""
    return [Ca(*row) for row in await connection.fetch(_PLATFORM_CAS)]


async def by_id(connection: Connection, ca_id: int) -> Ca | None:
    """Return a CA in any state, or None."""
    row = await connection.fetchrow(_BY_ID, ca_id)
    return Ca(*row) if row is not None else None


async def by_slug(connection: Connection, slug: str) -> Ca | None:
    """Return a CA in any state by its name in URLs, or None."""
    row = await connection.fetchrow(_BY_SLUG, slug)
    return Ca(*row) if row is not None else None


async def lock_creation(connection: Connection) -> None:
    """Let nobody else make a CA of the platform until the transaction ends."""
    await connection.execute(_LOCK_CREATION)


async def next_ca_id(connection: Connection) -> int:
    """Return the id of a CA that is about to be made."""
    return int(await connection.fetchval(_NEXT_CA_ID))


async def next_certificate_id(connection: Connection) -> int:
    """Return the id of a certificate that is about to be made."""
    return int(await connection.fetchval(_NEXT_CERTIFICATE_ID))


async def insert_ca(connection: Connection, ca: Ca) -> None:
    """Add a CA."""
    await connection.execute(_INSERT_CA, *astuple(ca))


# --- A CA as its users come to it ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Visit:
    """Which CA a user wants something of: by its id, or by its name in one organisation.

    `organization_id` counts with a name alone: None is every organisation, for superusers.
    """

    user_id: int
    ca_id: int | None = None
    name: str | None = None
    everywhere: bool = False
    organization_id: int | None = None


@dataclass(frozen=True, slots=True)
class Visited:
    """The CA, what the user has been granted on it, and the id of the next certificate."""

    ca: Ca
    grants: frozenset[str]
    next_certificate_id: int


_VISIT: Final = """
SELECT visit.place, ca_grant.capabilities,
    nextval(pg_get_serial_sequence('certificate', 'id')) AS next_certificate_id,
    ca.id, ca.name, ca.slug, ca.kind, ca.state, ca.parent_id, ca.subject, ca.certificate,
    ca.fingerprint, ca.not_before, ca.not_after, ca.created_at, ca.updated_at, ca.valid_days,
    ca.path_length, ca.allow_leaf_certs, ca.has_had_children, ca.description, ca.organization_id,
    ca.created_by_user_id, ca.crl_base_url, ca.successor_id, ca.key_backend, ca.key_handle,
    ca.sealed_key
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::boolean[], $5::bigint[])
    WITH ORDINALITY AS visit (user_id, ca_id, name, everywhere, organization_id, place)
JOIN ca ON ca.state <> 'deleted' AND (
    ca.id = visit.ca_id
    OR ca.id = ANY(ARRAY(
        SELECT named.id FROM ca AS named
        WHERE named.name = visit.name AND named.state = 'active' AND named.kind = 'user'
            AND (visit.everywhere OR named.organization_id = visit.organization_id
                OR named.created_by_user_id = visit.user_id)
        LIMIT 2)))
LEFT JOIN ca_grant ON ca_grant.ca_id = ca.id AND ca_grant.user_id = visit.user_id
"""


async def visit(connection: Connection, visits: Sequence[Visit]) -> list[list[Visited]]:
    """Return for each visit the CAs that were meant: none, one, or two where a name is no name.

    Deleted CAs are not seen, and a name means one in use.
    """
    found: list[list[Visited]] = [[] for _ in visits]
    rows = await connection.fetch(
        _VISIT,
        [visit.user_id for visit in visits],
        [visit.ca_id for visit in visits],
        [visit.name for visit in visits],
        [visit.everywhere for visit in visits],
        [visit.organization_id for visit in visits],
    )
    for place, capabilities, next_certificate_id, *columns in rows:
        grants = frozenset(capabilities or ())
        found[place - 1].append(Visited(Ca(*columns), grants, next_certificate_id))
    return found


# --- CAs as they are shown, and what becomes of them ---------------------------------------------

_FIND: Final = """
SELECT id, name, slug, kind, state, parent_id, subject, certificate, fingerprint, not_before,
    not_after, created_at, updated_at, valid_days, path_length, allow_leaf_certs, has_had_children,
    description, organization_id, created_by_user_id, crl_base_url, successor_id, key_backend,
    key_handle, sealed_key
FROM ca WHERE id = $1 AND state <> 'deleted'
"""
# Not FOR UPDATE: rows that refer to it may come and go meanwhile.
_LOCK: Final = """
SELECT id, name, slug, kind, state, parent_id, subject, certificate, fingerprint, not_before,
    not_after, created_at, updated_at, valid_days, path_length, allow_leaf_certs, has_had_children,
    description, organization_id, created_by_user_id, crl_base_url, successor_id, key_backend,
    key_handle, sealed_key
FROM ca WHERE id = $1 AND state <> 'deleted' FOR NO KEY UPDATE
"""
_ALL: Final = """
SELECT id, name, slug, kind, state, parent_id, subject, certificate, fingerprint, not_before,
    not_after, created_at, updated_at, valid_days, path_length, allow_leaf_certs, has_had_children,
    description, organization_id, created_by_user_id, crl_base_url, successor_id, key_backend,
    key_handle, sealed_key
FROM ca WHERE state <> 'deleted' ORDER BY id OFFSET $1 LIMIT $2
"""
# What a user may see is read from two indexes, of each as far as the page goes and no further.
_VISIBLE: Final = """
SELECT id, name, slug, kind, state, parent_id, subject, certificate, fingerprint, not_before,
    not_after, created_at, updated_at, valid_days, path_length, allow_leaf_certs, has_had_children,
    description, organization_id, created_by_user_id, crl_base_url, successor_id, key_backend,
    key_handle, sealed_key
FROM ca JOIN (
    (SELECT id FROM ca WHERE organization_id = $3 AND state <> 'deleted'
        ORDER BY id LIMIT $1::bigint + $2::bigint)
    UNION
    (SELECT id FROM ca WHERE created_by_user_id = $4 AND state <> 'deleted'
        ORDER BY id LIMIT $1::bigint + $2::bigint)
    ORDER BY id OFFSET $1 LIMIT $2) AS page USING (id)
ORDER BY id
"""
_CHILDREN: Final = """
SELECT id, name, slug, kind, state, parent_id, subject, certificate, fingerprint, not_before,
    not_after, created_at, updated_at, valid_days, path_length, allow_leaf_certs, has_had_children,
    description, organization_id, created_by_user_id, crl_base_url, successor_id, key_backend,
    key_handle, sealed_key
FROM ca WHERE parent_id = $1 AND state <> 'deleted' ORDER BY id OFFSET $2 LIMIT $3
"""
_COUNT_CHILDREN: Final = "SELECT count(*) FROM ca WHERE parent_id = $1 AND state <> 'deleted'"
_CHAIN: Final = """
WITH RECURSIVE above AS (
    SELECT id, parent_id, 1 AS height FROM ca WHERE id = $1
    UNION ALL
    SELECT ca.id, ca.parent_id, height + 1 FROM above JOIN ca ON ca.id = above.parent_id
)
SELECT ca.id, ca.name, ca.slug, ca.kind, ca.state, ca.parent_id, ca.subject, ca.certificate,
    ca.fingerprint, ca.not_before, ca.not_after, ca.created_at, ca.updated_at, ca.valid_days,
    ca.path_length, ca.allow_leaf_certs, ca.has_had_children, ca.description, ca.organization_id,
    ca.created_by_user_id, ca.crl_base_url, ca.successor_id, ca.key_backend, ca.key_handle,
    ca.sealed_key
FROM above JOIN ca USING (id) ORDER BY height
"""
_LATEST: Final = """
WITH RECURSIVE later AS (
    SELECT id, successor_id, 1 AS height FROM ca WHERE id = $1
    UNION ALL
    SELECT ca.id, ca.successor_id, height + 1 FROM later JOIN ca ON ca.id = later.successor_id
)
SELECT ca.id, ca.name, ca.slug, ca.kind, ca.state, ca.parent_id, ca.subject, ca.certificate,
    ca.fingerprint, ca.not_before, ca.not_after, ca.created_at, ca.updated_at, ca.valid_days,
    ca.path_length, ca.allow_leaf_certs, ca.has_had_children, ca.description, ca.organization_id,
    ca.created_by_user_id, ca.crl_base_url, ca.successor_id, ca.key_backend, ca.key_handle,
    ca.sealed_key
FROM later JOIN ca USING (id) ORDER BY height DESC LIMIT 1
"""
_HAS_A_CHILD: Final = """
UPDATE ca SET has_had_children = true, updated_at = now() WHERE id = $1
"""
_SET_STATE: Final = """
UPDATE ca SET state = $2, successor_id = coalesce($3, successor_id), updated_at = now()
WHERE id = $1
"""


async def find(connection: Connection, ca_id: int) -> Ca | None:
    """Return a CA that was not deleted, or None."""
    row = await connection.fetchrow(_FIND, ca_id)
    return Ca(*row) if row is not None else None


async def lock(connection: Connection, ca_id: int) -> Ca | None:
    """Return a CA that was not deleted, locked until the transaction ends, or None.

    Of two CAs the lower one is locked first: nobody waits in a circle.
    """
    row = await connection.fetchrow(_LOCK, ca_id)
    return Ca(*row) if row is not None else None


async def listed(connection: Connection, *, skip: int, limit: int) -> list[Ca]:
    """Return a page of all CAs by id, the platform's too."""
    return [Ca(*row) for row in await connection.fetch(_ALL, skip, limit)]


async def listed_for(
    connection: Connection, organization_id: int | None, user_id: int, *, skip: int, limit: int
) -> list[Ca]:
    """Return a page of what belongs to an organisation or was made by a user, by id."""
    rows = await connection.fetch(_VISIBLE, skip, limit, organization_id, user_id)
    return [Ca(*row) for row in rows]


async def children(connection: Connection, ca_id: int, *, skip: int, limit: int) -> list[Ca]:
    """Return a page of the CAs directly below one, by id."""
    return [Ca(*row) for row in await connection.fetch(_CHILDREN, ca_id, skip, limit)]


async def count_children(connection: Connection, ca_id: int) -> int:
    """Return how many CAs are directly below one."""
    return int(await connection.fetchval(_COUNT_CHILDREN, ca_id))


async def chain(connection: Connection, ca_id: int) -> list[Ca]:
    """Return a CA and those above it in whatever state they are, the root last."""
    return [Ca(*row) for row in await connection.fetch(_CHAIN, ca_id)]


async def latest(connection: Connection, ca_id: int) -> Ca:
    """Return a CA, or what it was rotated to last, in whatever state."""
    row = await connection.fetchrow(_LATEST, ca_id)
    assert row is not None  # noqa: S101 - rows of CAs are never deleted
    return Ca(*row)


async def has_a_child(connection: Connection, ca_id: int) -> None:
    """Record that there is, or was, a CA below one."""
    await connection.execute(_HAS_A_CHILD, ca_id)


async def set_state(
    connection: Connection, ca_id: int, state: str, successor_id: int | None = None
) -> None:
    """Take a CA out of use."""
    await connection.execute(_SET_STATE, ca_id, state, successor_id)
