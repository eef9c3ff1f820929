"""How Postgres runs a query: what it reads, what it sorts, how long it takes."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.database import Connection


@dataclass(frozen=True)
class Plan:
    """The steps of a query that was run, as EXPLAIN ANALYZE has them."""

    nodes: tuple[dict[str, Any], ...]

    @property
    def read_whole(self) -> set[str]:
        """Return the tables that are read from end to end."""
        return {n["Relation Name"] for n in self.nodes if n["Node Type"] == "Seq Scan"}

    @property
    def rows_read(self) -> int:
        """Return how many rows were looked at, whether they are a part of the answer or not."""
        rows: float = sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in self.nodes
            if "Relation Name" in node
        )
        return round(rows)

    @property
    def rows_sorted(self) -> int:
        """Return how many rows the largest sort was given."""
        sorts = [node for node in self.nodes if node["Node Type"] == "Sort"]
        return round(max((n["Plans"][0]["Actual Rows"] for n in sorts), default=0))


async def plan_of(connection: Connection, query: str, *arguments: object) -> Plan:
    """Run a query with its arguments and return how that went."""
    explained = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *arguments
    )
    return Plan(tuple(_nodes(json.loads(explained)[0]["Plan"])))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)


async def slowest(connection: Connection, query: str, *arguments: object, times: int = 20) -> float:
    """Return how many seconds the query takes at the most, once its pages are in memory."""
    await connection.fetch(query, *arguments)
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await connection.fetch(query, *arguments)
        taken.append(time.perf_counter() - begun)
    return max(taken)
