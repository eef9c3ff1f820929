"""CRLs: made within a second of a revocation, and before the last one ends.

1. Whoever revokes writes what the next CRL is to list, in the same statement (`store.revoked`).
2. Every replica looks for CAs with something to list, five times a second. One of them takes the
   CA's lock; the others go on.
3. In one transaction it takes what waits, adds the entries to the last segment, signs, and writes
   head and tail, the event and the audit record. What commits after it took waits for the next.
4. Twice a day, when nothing else has to be listed, too, the list is gone through: a certificate
   that had expired when the last CRL was made has been on one after its end, and is left out (RFC
   5280 section 3.3).
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from prometheus_client import Gauge

from contracts.audit import AuditObject
from contracts.errors import CertwireError
from contracts.events import CrlPublished
from contracts.principal import Principal, system
from contracts.subjects import Service
from services.issuer.authorities import Authorities
from services.issuer.authority import Authority
from services.issuer.domain import crl
from services.issuer.store import cas, crls
from services.issuer.store.cas import Ca
from services.issuer.store.crls import Crl, Segment, Waiting
from shared import outbox
from shared.clock import utc_now
from shared.database import Connection, Database
from shared.identifiers import uuid7
from shared.outbox import Backlog, OutboxRow, outbox_row

LOG: Final = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.2
PAUSE_SECONDS: Final = 0.5
"""Between two CRLs of a CA. With `LOOK_SECONDS` it leaves 0.3 s of the second to make one."""
SWEEP_SECONDS: Final = 30.0
"""How soon a new CA has an empty CRL, unless somebody asks for it before."""
PUT_OFF_SECONDS: Final = 5.0
"""Until a CA whose key did not sign is tried again."""
VALIDITY: Final = timedelta(hours=24)
REMADE_AFTER: Final = timedelta(hours=12)
SEGMENT_ENTRIES: Final = 1_000
"""Entries that are stored together: at most 56 kB, of which one more entry rewrites all."""
MOST_HELD_BYTES: Final = 128 * 1024 * 1024
"""Of the last CRLs that are kept in memory."""
WARN_OFFLINE_BEFORE: Final = timedelta(days=60)
"""The architecture's, for the CRL that a person has to make."""

_KINDS: Final = ("kind",)
CRLS: Final = Gauge("certwire_crls", "CRLs of CAs that have not ended", _KINDS)
ENTRIES: Final = Gauge("certwire_crl_entries", "Certificates that the last CRLs list", _KINDS)
NUMBER: Final = Gauge("certwire_crl_number", "The highest number of a last CRL", _KINDS)
AGE: Final = Gauge("certwire_crl_age_seconds", "Age of the oldest last CRL", _KINDS)


@dataclass(frozen=True, slots=True)
class Held:
    """The CRL that was made last; `sizes` are the octets of its segments."""

    row: Crl
    der: bytes
    sizes: tuple[int, ...]

    @property
    def segments(self) -> list[memoryview]:
        """Return the entries as they are stored."""
        view, start, found = memoryview(self.der), len(self.row.head), []
        for size in self.sizes:
            found.append(view[start : start + size])
            start += size
        return found


@dataclass(frozen=True, slots=True)
class Term:
    """How long a CRL is good for, and when it is made again unasked."""

    validity: timedelta = VALIDITY
    remade_after: timedelta | None = REMADE_AFTER


class Crls:
    """The last CRL of each CA: made here or by another replica, and held in memory."""

    def __init__(self, authorities: Authorities, database: Database, backlog: Backlog) -> None:
        self._authorities = authorities
        self._database = database
        self._backlog = backlog
        self._held: dict[int, Held] = {}
        self._held_bytes = 0
        self._put_off: dict[int, float] = {}

    async def keep_up(self) -> None:
        """Make the CRL of every CA that has something to list, or whose time has come."""
        while True:
            async with self._database.connection() as connection:
                due = await crls.due(connection, PAUSE_SECONDS)
            await self._make_each(due)
            await asyncio.sleep(LOOK_SECONDS)

    async def sweep(self) -> None:
        """Make the first CRL of new CAs, and count."""
        while True:
            async with self._database.connection() as connection:
                new, totals = await crls.without(connection), await crls.totals(connection)
            await self._make_each(new)
            for total in totals:
                CRLS.labels(total.kind).set(total.crls)
                ENTRIES.labels(total.kind).set(total.entries)
                NUMBER.labels(total.kind).set(total.highest_number)
                AGE.labels(total.kind).set(total.oldest_seconds)
            await asyncio.sleep(SWEEP_SECONDS)

    async def current(self, ca: Ca) -> Held | None:
        """Return the CA's last CRL, made now where there is none yet.

        None of a CA that ended, and where only `certwire ca crl` makes it and has not. Raises
        `CA_CANNOT_SIGN` and `NOT_INITIALISED` where it has to be made and cannot be.
        """
        held = await self._last(ca.id)
        if held is None and ca.key_backend != cas.FILE and ca.not_after > utc_now():
            await self.make(ca.id, wait=True)
            held = await self._last(ca.id)
        return held

    async def make(self, ca_id: int, *, wait: bool = False) -> None:
        """Make a CA's next CRL, unless somebody else does or there is no need any more."""
        async with self._database.transaction() as connection:
            if wait:
                await crls.lock(connection, ca_id)
            elif not await crls.try_lock(connection, ca_id):
                return
            ca = await cas.by_id(connection, ca_id)
            assert ca is not None  # noqa: S101 - CAs are never deleted
            last = await load(connection, ca_id, self._held.get(ca_id))
            authority = self._authorities.authority(ca)
            actor = system(Service.ISSUER)
            remake = last is None or last.row.is_due
            made = await publish(connection, ca, authority, last, Term(), actor, remake=remake)
        if made is not None:
            self._keep(made)
            self._backlog.nudge()

    async def warnings(self) -> list[str]:
        """Return what somebody has to do about CRLs."""
        async with self._database.connection() as connection:
            offline = await crls.offline(connection)
            overdue = await crls.overdue(connection)
        return [
            *(text for found in offline for text in _offline_warnings(*found)),
            *(f"the CRL of {slug} could not be made again in time" for slug in overdue),
        ]

    async def _make_each(self, ca_ids: Iterable[int]) -> None:
        """Make CRLs one after another; one that can't be made holds up no other."""
        for ca_id in ca_ids:
            if self._put_off.get(ca_id, 0.0) > time.monotonic():
                continue
            try:
                await self.make(ca_id)
            except CertwireError as error:
                LOG.warning("a CRL was not made", extra={"ca": ca_id, "problem": str(error)})
                self._put_off[ca_id] = time.monotonic() + PUT_OFF_SECONDS
            else:
                self._put_off.pop(ca_id, None)

    async def _last(self, ca_id: int) -> Held | None:
        async with self._database.connection() as connection:
            held = await load(connection, ca_id, self._held.get(ca_id))
        if held is not None:
            self._keep(held)
        return held

    def _keep(self, held: Held) -> None:
        """Hold it, and let go of those that were asked for least recently."""
        before = self._held.pop(held.row.ca_id, None)
        self._held_bytes += len(held.der) - (len(before.der) if before else 0)
        self._held[held.row.ca_id] = held
        while self._held_bytes > MOST_HELD_BYTES:
            self._held_bytes -= len(self._held.pop(next(iter(self._held))).der)


async def load(connection: Connection, ca_id: int, held: Held | None = None) -> Held | None:
    """Return the CRL that was made last, reading only what is new since the one that is held."""
    found = await crls.last(connection, ca_id, held.row.number if held else 0)
    if found is None:
        return None
    row, changed = found
    if held is not None and row.number < held.row.number:  # the database was restored
        return await load(connection, ca_id)
    if held is not None and row.number == held.row.number:
        return replace(held, row=row)
    kept = held.segments if held else []
    places = range(-(-row.entries // SEGMENT_ENTRIES))
    segments = [changed[place] if place in changed else kept[place] for place in places]
    der = b"".join((row.head, *segments, row.tail))
    return Held(row, der, tuple(map(len, segments)))


async def publish(
    connection: Connection,
    ca: Ca,
    authority: Authority,
    last: Held | None,
    term: Term,
    actor: Principal,
    *,
    remake: bool = False,
) -> Held | None:
    """Make and record a CA's next CRL, whose lock the transaction holds.

    None where nothing waits, unless it is to be remade: then expired certificates are left out.
    Raises `CA_CANNOT_SIGN`.
    """
    taken = await crls.take(connection, ca.id)
    if not taken and not remake:
        return None
    number = last.row.number + 1 if last else 1
    before = last.row.entries if last else 0
    segments: list[bytes | memoryview] = list(last.segments) if last else []
    new = await asyncio.to_thread(_entries, taken)
    if remake and last is not None:
        ends = await crls.ends(connection, ca.id)
        kept = await asyncio.to_thread(_unexpired, last, ends)
        if len(kept) < before:
            await crls.clear(connection, ca.id)
            before, segments, new = 0, [], [*kept, *new]
    added = list(_segments(before, new))
    await crls.append(connection, ca.id, number, added)
    for part in added:
        if part.place < len(segments):
            segments[part.place] = bytes(segments[part.place]) + part.entries
        else:
            segments.append(part.entries)
    now = utc_now().replace(microsecond=0)
    row = Crl(
        ca_id=ca.id,
        number=number,
        this_update=now,
        next_update=now + term.validity,
        remake_at=_remake_at(ca, term, now) if last is None or remake else last.row.remake_at,
        entries=before + len(new),
        size=0,
        head=b"",
        tail=b"",
    )
    made = await asyncio.to_thread(_sign, authority, row, segments)
    await crls.put(connection, made.row)
    await outbox.append(connection, [_published(ca, made.row, actor)])
    return made


def _remake_at(ca: Ca, term: Term, now: datetime) -> datetime | None:
    """Return when it is due again; never where the CA ends before."""
    if term.remade_after is None or now + term.remade_after >= ca.not_after:
        return None
    return now + term.remade_after


def _entries(taken: Sequence[Waiting]) -> list[tuple[bytes, int]]:
    """Return entries with the ends of their certificates in Unix seconds."""
    return [
        (
            crl.entry(item.serial_hex, item.revoked_at, item.reason),
            int(item.not_after.timestamp()),
        )
        for item in taken
    ]


def _unexpired(last: Held, ends: Sequence[Sequence[int]]) -> list[tuple[bytes, int]]:
    """Return the entries, with their ends, that had not expired when the last CRL was made."""
    made = int(last.row.this_update.timestamp())
    return [
        (entry, end)
        for segment, its_ends in zip(last.segments, ends, strict=True)
        for entry, end in zip(crl.entries_of(bytes(segment)), its_ends, strict=True)
        if end >= made
    ]


def _segments(before: int, entries: Sequence[tuple[bytes, int]]) -> Iterator[Segment]:
    """Yield what is added to each segment, where so many entries are stored already."""
    numbered = enumerate(entries, start=before)
    for place, group in groupby(numbered, key=lambda item: item[0] // SEGMENT_ENTRIES):
        members = [member for _, member in group]
        joined = b"".join(entry for entry, _ in members)
        yield Segment(place, joined, [end for _, end in members])


def _sign(authority: Authority, row: Crl, segments: Sequence[bytes | memoryview]) -> Held:
    """Sign; with many entries it takes some milliseconds."""
    sizes = tuple(map(len, segments))
    unsigned = authority.crl.unsigned(row.number, row.this_update, row.next_update, sum(sizes))
    signature = authority.signature(b"".join((unsigned.head, *segments, unsigned.tail)))
    head, tail = unsigned.signed(signature)
    der = b"".join((head, *segments, tail))
    return Held(replace(row, size=len(der), head=head, tail=tail), der, sizes)


def _published(ca: Ca, row: Crl, actor: Principal) -> OutboxRow:
    return outbox_row(
        Service.ISSUER,
        str(uuid7()),
        actor,
        "crl_publish",
        AuditObject(type="ca", id=str(ca.id), name=ca.name, organization_id=ca.organization_id),
        detail={"number": row.number, "entries": row.entries},
        event=CrlPublished(
            ca=ca.slug,
            number=row.number,
            this_update=row.this_update,
            next_update=row.next_update,
            entries=row.entries,
        ),
    )


def _offline_warnings(slug: str, next_update: datetime | None, waits: bool) -> Iterator[str]:  # noqa: FBT001 - a column
    if next_update is None:
        yield f"{slug} has no CRL: run `certwire ca crl`"
    elif next_update - utc_now() < WARN_OFFLINE_BEFORE:
        yield f"the CRL of {slug} ends on {next_update:%Y-%m-%d}: run `certwire ca crl`"
    if waits:
        yield f"the CRL of {slug} lacks a revocation: run `certwire ca crl`"
