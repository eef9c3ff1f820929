"""How a service changes its key-encryption key while it runs.

A value's header names the key that it is under, so there is nothing else to remember: whatever is
cut off anywhere is gone on with by the next call, on any replica. The whole procedure is in
docs/decisions/key-encryption-key.md.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.kek import (
    GetSealedValues,
    KekCommands,
    RetireKeys,
    Rewrapped,
    RewrapValues,
    SealedValues,
)
from contracts.messages import Command, Done, Message
from contracts.principal import Principal, PrincipalKind
from shared import sealed_columns
from shared.database import Connection
from shared.runtime import Runtime
from shared.sealed_columns import SealedColumn
from shared.secrets import Sealer, UnsealError
from shared.settings import SealingSettings

OPERATOR: Final = Principal(kind=PrincipalKind.OPERATOR, id="kek", name="certwire kek")
BATCH: Final = 200
"""Values in one transaction: their rows are locked for the time of one UPDATE."""
WORK_SECONDS: Final = 3.0
"""How long one call works; whoever calls waits for ten."""

Columns = Sequence[SealedColumn]


class Service(Protocol):
    """What handlers act on, whichever service it is."""

    @property
    def runtime(self) -> Runtime: ...


def handlers(
    commands: KekCommands, columns: Columns
) -> dict[type[Command[Any]], Callable[[Any, Any], Awaitable[Message]]]:
    """Return a service's handlers of its commands."""
    return {
        commands.get: partial(_get, columns=columns),
        commands.rewrap: partial(_rewrap, columns=columns),
        commands.retire: partial(_retire, columns=columns),
    }


async def _get(_command: GetSealedValues, service: Service, columns: Columns) -> SealedValues:
    sealer = _sealer(service)
    async with service.runtime.database.connection() as connection:
        counts = await _counts(connection, columns)
    return SealedValues(current=sealer.current, counts=dict(counts))


async def _rewrap(command: RewrapValues, service: Service, columns: Columns) -> Rewrapped:
    sealer = _current(service, command.key_id)
    async with service.runtime.database.connection() as connection:
        waiting = _left(await _counts(connection, columns), command.key_id)
    if waiting and not command.values:
        await _record(command, service, "kek_rotate", waiting)
    done, until = 0, time.monotonic() + WORK_SECONDS
    for column in columns:
        while time.monotonic() < until and (some := await _batch(service, sealer, column)):
            done += some
    async with service.runtime.database.connection() as connection:
        left = _left(await _counts(connection, columns), command.key_id)
    if not left and command.values + done:
        await _record(command, service, "kek_rewrap", command.values + done)
    return Rewrapped(values=done, left=left)


async def _batch(service: Service, sealer: Sealer, column: SealedColumn) -> int:
    """Rewrap some values; one that is changed at this moment stays, and is found again."""
    async with service.runtime.database.transaction() as connection:
        values = await column.others(connection, bytes.fromhex(sealer.current), BATCH)
        if values:
            try:
                new = [(key, old, sealer.rewrap(old, column.row(key))) for key, old in values]
            except UnsealError as error:
                raise _conflict(f"a value of {column.table} does not open: {error}") from error
            return await column.replace(connection, new)
    return 0


async def _retire(command: RetireKeys, service: Service, columns: Columns) -> Done:
    _current(service, command.key_id)
    if command.key_id in command.retired:
        raise _conflict("the current key is not to be retired")
    async with service.runtime.unit_of_work(command) as work:
        await sealed_columns.lock(work.connection, columns)
        counts = await _counts(work.connection, columns)
        left = sum(counts[key_id] for key_id in command.retired)
        if left:
            raise _conflict(f"{left} values are under it still: `certwire kek rotate`")
        await sealed_columns.retire(work.connection, command.retired)
        for key_id in command.retired:
            work.record(OPERATOR, "kek_retire", _object(key_id))
        return await work.answer(Done())


async def _record(command: RewrapValues, service: Service, action: str, values: int) -> None:
    async with service.runtime.unit_of_work(command) as work:
        work.record(OPERATOR, action, _object(command.key_id), detail={"values": values})


async def _counts(connection: Connection, columns: Columns) -> Counter[str]:
    counts: Counter[str] = Counter()
    for column in columns:
        counts += await column.counts(connection)
    return counts


def _left(counts: Counter[str], key_id: str) -> int:
    return counts.total() - counts[key_id]


def _sealer(service: Service) -> Sealer:
    settings = service.runtime.settings
    assert isinstance(settings, SealingSettings)  # noqa: S101 - else it would seal nothing
    settings.sealer.reload()
    return settings.sealer


def _current(service: Service, key_id: str) -> Sealer:
    sealer = _sealer(service)
    if sealer.current != key_id:
        raise _conflict(f"the {service.runtime.service} seals with {sealer.current}")
    return sealer


def _object(key_id: str) -> AuditObject:
    return AuditObject(type="kek", id=key_id, name="")


def _conflict(reason: str) -> CertwireError:
    return CertwireError(ErrorCode.CONFLICT, reason)
