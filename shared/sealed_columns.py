"""Columns that hold sealed values, declared once a service, and their queries."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from contracts.subjects import Service
from shared.database import Connection

_RETIRE: Final = "INSERT INTO retired_kek (key_id) VALUES ($1) ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed values; `key` is the column that tells its rows apart.

    The names stand in queries as they are: they come from stores, and from nowhere else.
    """

    service: Service
    table: str
    column: str
    key: str
    key_type: str = "bigint"

    def row(self, key: object) -> str:
        """Return what the value in a row is bound to, such as `issuer.ca.sealed_key:3`."""
        return f"{self.service}.{self.table}.{self.column}:{key}"

    async def counts(self, connection: Connection) -> Counter[str]:
        """Return how many values are under which key, by its id in hex."""
        rows = await connection.fetch(
            f"SELECT encode(substring({self.column} FROM 2 FOR 8), 'hex') AS key_id, count(*)"  # noqa: S608 - our own names
            f" FROM {self.table} WHERE {self.column} IS NOT NULL GROUP BY 1"
        )
        return Counter({row["key_id"]: row["count"] for row in rows})

    async def others(
        self, connection: Connection, key_id: bytes, limit: int
    ) -> list[tuple[str, bytes]]:
        """Return values under other keys than the one, with the key of their rows."""
        rows = await connection.fetch(
            f"SELECT {self.key}::text AS key, {self.column} AS value FROM {self.table}"  # noqa: S608 - our own names
            f" WHERE substring({self.column} FROM 2 FOR 8) <> $1 LIMIT $2",
            key_id,
            limit,
        )
        return [(row["key"], row["value"]) for row in rows]

    async def replace(
        self, connection: Connection, values: Sequence[tuple[str, bytes, bytes]]
    ) -> int:
        """Put values in the place of others, where those are still there: (key, old, new).

        Returns how many were.
        """
        status = await connection.execute(
            f"UPDATE {self.table} SET {self.column} = item.new"  # noqa: S608 - our own names
            " FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS item (key, old, new)"
            f" WHERE {self.table}.{self.key} = item.key::{self.key_type}"
            f" AND {self.table}.{self.column} = item.old",
            *map(list, zip(*values, strict=True)),
        )
        return int(status.rpartition(" ")[2])


async def lock(connection: Connection, columns: Iterable[SealedColumn]) -> None:
    """Wait for those who are writing values, and let nobody else until the transaction ends."""
    tables = ", ".join(sorted({column.table for column in columns}))
    await connection.execute(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE")


async def retire(connection: Connection, key_ids: Iterable[str]) -> None:
    """Take no value under these keys from now on."""
    await connection.executemany(_RETIRE, [(bytes.fromhex(key_id),) for key_id in key_ids])
