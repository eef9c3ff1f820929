"""Searches among all certificates, which read no more than so many rows a page.

Postgres takes conditions to be independent of one another and of the order, and would read a table
whole for the few rows that meet them. So a page is told what to be read from:

1. Each condition with an index is a source. Where one has no more than `ROWS` rows, these are read,
   and nothing else.
2. Otherwise rows are read in the order of the page, from an index that has it, `ROWS` at the most:
   the page has those that meet every condition, and the next one goes on after the last row read.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from contracts.certificates import CertificateKind
from services.issuer.domain.inventory import Order, Position
from services.issuer.store.certificates import Kept
from shared.database import Connection

ROWS: Final = 5_000
LAST_ID: Final = 2**63 - 1
_EVER: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Search:
    """Who looks for what; None is no condition.

    `common_name` is whole, `common_name_like` a pattern; `names` are alternatives, and
    `instance_common_name` that of the instance that one of them names; ends include the moment
    itself. The page has at most `limit` certificates after `after`, and ends with the one that
    makes it longer than `octets` in DER.
    """

    everything: bool
    of_organization_id: int | None
    of_user_id: int
    order: Order
    after: Position | None
    common_name: str | None
    common_name_like: str | None
    names: Sequence[str] | None
    instance_common_name: str | None
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


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with a question mark for each argument."""

    text: str
    arguments: tuple[object, ...] = ()

    @property
    def numbered(self) -> str:
        """Return the SQL as Postgres takes it."""
        numbers = itertools.count(1)
        return re.sub(r"\?", lambda _: f"${next(numbers)}", self.text)


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of an index in its order; of these, only what meets `besides` is of the source.

    `by_bitmap`: the index has no order, and Postgres would rather read another from its beginning.
    """

    where: Statement
    order: str
    besides: Statement = Statement("true")
    by_bitmap: bool = False


@dataclass(frozen=True, slots=True)
class _Source:
    """All that meets a condition. `in_order`: each part has its rows in the order of the page."""

    parts: Sequence[_Part]
    in_order: bool = True


_COLUMNS: Final = """id, ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, common_name,
    subject, subject_alternative_names, certificate, not_before, not_after, created_at, revoked_at,
    revocation_reason, revocation_detail, organization_id, created_by_user_id, for_ca_id"""
_ORDERS: Final = {
    Order.NEWEST: "ORDER BY id DESC",
    Order.SOONEST: "ORDER BY not_after, id",
    Order.LATEST: "ORDER BY not_after DESC, id DESC",
}
# As it is said below, there is one index for each part: what Postgres believes of how many rows
# there are shall not have it read and sort another.
PLANNED: Final = """
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_sort = off;
SET LOCAL enable_incremental_sort = off;
SET LOCAL jit = off
"""
_ALL_OF_PART: Final = f"""
SELECT ARRAY(SELECT id FROM certificate WHERE %s %s LIMIT {ROWS} + 1)
"""  # noqa: S608 - put together from constants
_IN_ORDER: Final = f"""
(SELECT * FROM (
    SELECT *, row_number() OVER () AS place FROM (
        SELECT id, not_after, (%s) IS TRUE AS meets FROM certificate
        WHERE %s %s LIMIT {ROWS}
    ) AS read
) AS placed WHERE meets OR place = {ROWS} LIMIT %s + 1)
"""  # noqa: S608 - put together from constants


async def search(connection: Connection, asked: Search) -> tuple[list[Kept], Position | None]:
    """Return a page of certificates, and after which position the next one begins.

    It may be short, or empty, where there is a next one.
    """
    await connection.execute(PLANNED)
    statement = await _statement(connection, asked)
    rows = await connection.fetch(statement.numbered, *statement.arguments)
    found: list[Kept] = []
    for row in rows[: asked.limit]:
        *columns, meets, place, _ = row
        kept = Kept(*columns)
        if meets:
            found.append(kept)
        if place == ROWS:
            return found, Position(asked.order, kept.id, kept.not_after)
    if not rows or rows[0]["found"] == len(found):
        return found, None
    return found, Position(asked.order, found[-1].id, found[-1].not_after)


async def _statement(connection: Connection, asked: Search) -> Statement:
    """Return what reads the page: from a source of few rows, or from the first that is in order."""
    sources = list(_sources(asked))
    if len(sources) > 1:
        for source in _sources(replace(asked, after=None)):
            if (ids := await _few(connection, source)) is not None:
                return _page_of_few(asked, ids)
    return _page_in_order(asked, next(source for source in sources if source.in_order))


async def _few(connection: Connection, source: _Source) -> list[int] | None:
    """Return the ids of all rows of a source, or None where there are many."""
    ids: list[int] = []
    for part in source.parts:
        statement = _filled(_ALL_OF_PART, part.where, Statement(part.order))
        if part.by_bitmap:
            await connection.execute("SET LOCAL enable_indexscan = off")
        ids += await connection.fetchval(statement.numbered, *statement.arguments)
        if part.by_bitmap:
            await connection.execute("SET LOCAL enable_indexscan = on")
        if len(ids) > ROWS:
            return None
    return ids


def _page_of_few(asked: Search, ids: list[int]) -> Statement:
    meets = _joined(" AND ", [*_conditions(asked), *_beyond(asked)])
    few = f"""
        SELECT id, not_after, true AS meets, 0 AS place
        FROM (SELECT * FROM certificate WHERE id = ANY (?::bigint[]) OFFSET 0) AS of_source
        WHERE {meets.text}
    """  # noqa: S608 - put together from constants
    return _page(asked, Statement(few, (ids, *meets.arguments)))


def _page_in_order(asked: Search, source: _Source) -> Statement:
    limit = Statement("?::bigint", (asked.limit,))
    parts = []
    for part in source.parts:
        meets = _joined(" AND ", [*_conditions(asked), part.besides])
        parts.append(_filled(_IN_ORDER, meets, part.where, Statement(part.order), limit))
    return _page(asked, _joined(" UNION ALL ", parts))


def _page(asked: Search, rows: Statement) -> Statement:
    order = _ORDERS[asked.order]
    page = f"""
        SELECT {_COLUMNS}, meets, place, found
        FROM (
            SELECT certificate.*, meets, place, count(*) OVER () AS found,
                sum(octet_length(certificate.certificate)) OVER
                    ({order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS octets_before
            FROM (
                SELECT id, meets, place FROM ({rows.text}) AS candidate
                {order} LIMIT ?::bigint + 1
            ) AS page JOIN certificate USING (id)
        ) AS measured
        WHERE octets_before IS NULL OR octets_before <= ?::bigint
        {order}
    """  # noqa: S608 - put together from constants
    return Statement(page, (*rows.arguments, asked.limit, asked.octets))


def _filled(template: str, *statements: Statement) -> Statement:
    text = template % tuple(statement.text for statement in statements)
    return Statement(text, tuple(itertools.chain(*(each.arguments for each in statements))))


def _joined(separator: str, statements: Sequence[Statement]) -> Statement:
    return _filled(separator.join(["%s"] * len(statements)), *statements)


def _conditions(asked: Search) -> Iterator[Statement]:
    """Yield what is to be met."""
    yield Statement("true")
    if not asked.everything:
        yield Statement(
            "(organization_id = ?::bigint OR created_by_user_id = ?::bigint)",
            (asked.of_organization_id, asked.of_user_id),
        )
    for text, value in (
        ("lower(common_name) = lower(?::text)", asked.common_name),
        ("lower(common_name) LIKE lower(?::text)", asked.common_name_like),
        ("subject_alternative_names && ?::text[]", asked.names),
        ("serial_hex = ?::text", asked.serial_hex),
        ("fingerprint = ?::text", asked.fingerprint),
        ("(revoked_at IS NOT NULL) = ?::boolean", asked.is_revoked),
        ("kind = ?::text", asked.kind),
        ("ca_id = ?::bigint", asked.ca_id),
        ("organization_id = ?::bigint", asked.organization_id),
        ("not_after >= ?::timestamptz", asked.ends_from),
        ("not_after <= ?::timestamptz", asked.ends_until),
    ):
        if value is not None:
            yield Statement(text, (value,))


def _beyond(asked: Search) -> Iterator[Statement]:
    """Yield what is after the page before."""
    if asked.after is None:
        return
    if asked.order is Order.NEWEST:
        yield Statement("id < ?::bigint", (asked.after.id,))
    else:
        sign = ">" if asked.order is Order.SOONEST else "<"
        yield Statement(
            f"ROW(not_after, id) {sign} ROW(?::timestamptz, ?::bigint)",
            (asked.after.not_after, asked.after.id),
        )


def _sources(asked: Search) -> Iterator[_Source]:
    """Yield sources: before others those of which fewer rows are expected."""
    by_id = asked.order is Order.NEWEST
    yield from _named_sources(asked)
    if asked.organization_id is not None:
        yield _Source([_of_owner(asked, "organization_id", asked.organization_id)])
    if not asked.everything:
        yield _visible(asked)
    if asked.ca_id is not None:
        yield _Source([_newest_of(asked, "ca_id", "bigint", asked.ca_id)], in_order=by_id)
    if asked.kind is not None:
        yield _Source([_newest_of(asked, "kind", "text", asked.kind)], in_order=by_id)
    if asked.is_revoked:
        revoked = Statement("revoked_at IS NOT NULL AND id < ?::bigint", (_newest(asked),))
        yield _Source([_Part(revoked, "ORDER BY id DESC")], in_order=by_id)
    if not by_id:
        yield _Source(list(_ending(asked)))
    elif asked.everything:
        all_of_them = Statement("id < ?::bigint", (_newest(asked),))
        yield _Source([_Part(all_of_them, "ORDER BY id DESC")])


def _named_sources(asked: Search) -> Iterator[_Source]:
    if asked.fingerprint is not None:
        yield _whole("fingerprint = ?::text", asked.fingerprint)
    if asked.serial_hex is not None:
        yield _whole(
            "serial_hex = ?::text AND ca_id = ANY (ARRAY(SELECT id FROM ca))", asked.serial_hex
        )
    if asked.names is not None:
        named = "kind <> 'instance' AND subject_alternative_names && ?::text[]"
        parts = [_Part(Statement(named, (asked.names,)), "", by_bitmap=True)]
        if asked.instance_common_name is not None:
            parts.append(_of_common_name(asked.instance_common_name, LAST_ID))
        yield _Source(parts, in_order=False)
    if asked.common_name is not None:
        by_id = asked.order is Order.NEWEST
        yield _Source([_of_common_name(asked.common_name, _newest(asked))], in_order=by_id)
    if asked.common_name_like is not None:
        order = "ORDER BY lower(common_name) USING ~<~, id"
        yield _whole("lower(common_name) LIKE lower(?::text)", asked.common_name_like, order)


def _whole(where: str, argument: object, order: str = "") -> _Source:
    return _Source([_Part(Statement(where, (argument,)), order)], in_order=False)


def _of_common_name(common_name: str, below_id: int) -> _Part:
    # As a range, as are equal columns below: with an equality the primary key has the order too.
    return _Part(
        Statement(
            "lower(common_name) ~>=~ lower(?::text) AND lower(common_name) ~<=~ lower(?::text)"
            " AND id < ?::bigint",
            (common_name, common_name, below_id),
        ),
        "ORDER BY lower(common_name) USING ~>~, id DESC",
    )


def _visible(asked: Search) -> _Source:
    """Return what the organisation has, and what the user made elsewhere."""
    made = _of_owner(asked, "created_by_user_id", asked.of_user_id)
    if asked.of_organization_id is None:
        return _Source([made])
    elsewhere = Statement("(organization_id = ?::bigint) IS NOT TRUE", (asked.of_organization_id,))
    return _Source(
        [
            _of_owner(asked, "organization_id", asked.of_organization_id),
            replace(made, besides=elsewhere),
        ]
    )


def _of_owner(asked: Search, column: str, owner: int) -> _Part:
    if asked.order is not Order.NEWEST:
        return _ends(asked, f"{column} IS NOT NULL", f"{column}, ", "?::bigint, ", (owner,))
    part = _newest_of(asked, column, "bigint", owner)
    if not asked.is_revoked:
        return part
    text = f"{part.where.text} AND {column} IS NOT NULL AND revoked_at IS NOT NULL"
    return replace(part, where=replace(part.where, text=text))


def _newest_of(asked: Search, column: str, kind: str, value: object) -> _Part:
    return _Part(
        Statement(
            f"{column} >= ?::{kind} AND ROW({column}, id) < ROW(?::{kind}, ?::bigint)",
            (value, value, _newest(asked)),
        ),
        f"ORDER BY {column} DESC, id DESC",
    )


def _newest(asked: Search) -> int:
    is_after = asked.after is not None and asked.order is Order.NEWEST
    return asked.after.id if asked.after and is_after else LAST_ID


def _ending(asked: Search) -> Iterator[_Part]:
    """Yield what ends when it is asked for, of users and of instances."""
    if asked.kind != CertificateKind.INSTANCE:
        yield _ends(asked, "kind <> 'instance'")
    if asked.kind in {None, CertificateKind.INSTANCE}:
        if asked.is_revoked is not True:
            yield _ends(asked, "kind = 'instance' AND revoked_at IS NULL")
        if asked.is_revoked is not False:
            yield _ends(asked, "kind = 'instance' AND revoked_at IS NOT NULL")


def _ends(
    asked: Search,
    of_index: str,
    columns: str = "",
    values: str = "",
    equal: tuple[object, ...] = (),
) -> _Part:
    """Return what ends when it is asked for, of an index of the columns, `not_after` and `id`."""
    first, last = asked.ends_from or _EVER[0], asked.ends_until or _EVER[1]
    if asked.order is Order.SOONEST:
        signs, begin, until, direction = (">", "<="), (first, 0), last, ""
    else:
        signs, begin, until, direction = ("<", ">="), (last, LAST_ID), first, " DESC"
    if asked.after is not None:
        begin = (asked.after.not_after, asked.after.id)
    ordered = ", ".join(f"{column}{direction}" for column in f"{columns}not_after, id".split(", "))
    return _Part(
        Statement(
            f"{of_index} AND ROW({columns}not_after, id) {signs[0]}"
            f" ROW({values}?::timestamptz, ?::bigint)"
            f" AND ROW({columns}not_after) {signs[1]} ROW({values}?::timestamptz)",
            (*equal, *begin, *equal, until),
        ),
        f"ORDER BY {ordered}",
    )
