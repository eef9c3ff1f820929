"""The report for a person and, as JSON, for a program."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.summary import PERCENTILES, Row, Segment, Spread, ratios, summarize

CERTWIRE, OPENBAO = "certwire", "openbao"


def text(segments: Sequence[Segment], facts: Mapping[str, str], unit: str) -> str:
    """Tables for a person; `unit` is what a rate counts."""
    rows = sorted(summarize(segments), key=lambda row: (row.connections, row.server))
    parts = [
        "\n".join(f"{name}: {value}" for name, value in facts.items()),
        _table(_rates(rows, _ratios(segments))),
        f"CPU, µs a {unit} (all cores; until the last event is on its stream and audited)",
        _table(_cpu(rows)),
    ]
    return "\n\n".join(parts)


def json_report(segments: Sequence[Segment], facts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "facts": dict(facts),
        "rows": [dataclasses.asdict(row) for row in summarize(segments)],
        "ratios": {
            other: {
                str(connections): dataclasses.asdict(ratio) for connections, ratio in found.items()
            }
            for other, found in _ratios(segments).items()
        },
        "rounds": [
            {
                "server": segment.server,
                "connections": segment.connections,
                "round": segment.round_number,
                "rate": segment.rate,
                "successes": segment.successes,
                "errors": segment.errors,
                "settle_seconds": segment.settle_seconds,
                "bystander_cores": segment.bystander_cores,
            }
            for segment in segments
        ],
    }


def _ratios(segments: Sequence[Segment]) -> dict[str, dict[int, Spread]]:
    """Certwire's rate to that of each other server, by connections."""
    others = sorted({segment.server for segment in segments} - {CERTWIRE})
    return {other: ratios(segments, CERTWIRE, other) for other in others}


def _rates(rows: Sequence[Row], by_server: Mapping[str, Mapping[int, Spread]]) -> list[list[str]]:
    percentiles = [f"p{percent} ms" for percent in PERCENTILES]
    table = [["connections", "server", "rate/s", "(range)", "Certwire to it", "(range)"]]
    table[0] += [*percentiles, "max ms", "settled ms", "errors"]
    for row in rows:
        ratio = by_server.get(row.server, {}).get(row.connections)
        table.append(
            [
                str(row.connections),
                row.server,
                f"{row.rate.median:,.0f}",
                f"{row.rate.low:,.0f} to {row.rate.high:,.0f}",
                f"{ratio.median:.2f}" if ratio else "",
                f"{ratio.low:.2f} to {ratio.high:.2f}" if ratio else "",
                *(f"{row.latency_milliseconds[percent]:.1f}" for percent in PERCENTILES),
                f"{row.max_milliseconds:.1f}",
                f"{row.settle_milliseconds:.0f}",
                str(row.errors),
            ]
        )
    return table


def _cpu(rows: Sequence[Row]) -> list[list[str]]:
    groups = sorted({group for row in rows for group in row.cpu_microseconds} - {OPENBAO})
    table = [["connections", "server", "total", *groups, "load generator"]]
    for row in rows:
        cells = (row.cpu_microseconds.get(group) for group in groups)
        table.append(
            [
                str(row.connections),
                row.server,
                f"{row.total_cpu_microseconds:,.0f}" if row.cpu_microseconds else "?",
                *("" if cell is None else f"{cell:,.0f}" for cell in cells),
                f"{row.generator_microseconds:,.0f}",
            ]
        )
    return table


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Right-aligned columns, the second (a name) left-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
