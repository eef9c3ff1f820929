"""From measured segments to the numbers of the report. No I/O."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

PERCENTILES = (50, 90, 99)
MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Segment:
    """One server, one number of connections, one round."""

    server: str
    connections: int
    round_number: int
    latencies_seconds: Sequence[float]
    errors: int
    elapsed_seconds: float
    settle_seconds: float
    generator_cpu_seconds: float
    # The server's own processes, until everything had settled, by group.
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    # What the server at rest used meanwhile, as a share of one core.
    bystander_cores: float = 0.0

    @property
    def successes(self) -> int:
        return len(self.latencies_seconds)

    @property
    def rate(self) -> float:
        """Certificates a second."""
        return self.successes / self.elapsed_seconds


@dataclass(frozen=True, slots=True)
class Spread:
    """A median over the rounds with its extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        return cls(median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True, slots=True)
class Row:
    """All rounds of one server at one number of connections; times in the unit that they name."""

    server: str
    connections: int
    rate: Spread
    latency_milliseconds: Mapping[int, float]
    max_milliseconds: float
    errors: int
    settle_milliseconds: float
    generator_microseconds: float
    cpu_microseconds: Mapping[str, float]

    @property
    def total_cpu_microseconds(self) -> float:
        return sum(self.cpu_microseconds.values())


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in ascending order; NaN where there are none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summarize(segments: Iterable[Segment]) -> list[Row]:
    """One row a server and number of connections, in the order of their first appearance."""
    grouped: dict[tuple[str, int], list[Segment]] = {}
    for segment in segments:
        grouped.setdefault((segment.server, segment.connections), []).append(segment)
    return [_row(server, connections, rounds) for (server, connections), rounds in grouped.items()]


def ratios(segments: Iterable[Segment], server: str, other: str) -> dict[int, Spread]:
    """Rate of `server` to that of `other`, divided round by round, by connections."""
    rates = {(s.server, s.connections, s.round_number): s.rate for s in segments}
    found: dict[int, list[float]] = {}
    for (name, connections, round_number), rate in rates.items():
        beside = rates.get((other, connections, round_number))
        if name == server and beside:
            found.setdefault(connections, []).append(rate / beside)
    return {connections: Spread.of(values) for connections, values in found.items()}


def _row(server: str, connections: int, rounds: Sequence[Segment]) -> Row:
    ordered = [sorted(segment.latencies_seconds) for segment in rounds]
    answered = sum(segment.successes + segment.errors for segment in rounds)
    certificates = sum(segment.successes for segment in rounds)
    groups = sorted({group for segment in rounds for group in segment.cpu_seconds})
    return Row(
        server=server,
        connections=connections,
        rate=Spread.of(segment.rate for segment in rounds),
        latency_milliseconds={
            percent: 1e3 * median(percentile(latencies, percent) for latencies in ordered)
            for percent in PERCENTILES
        },
        max_milliseconds=1e3
        * max((latencies[-1] for latencies in ordered if latencies), default=math.nan),
        errors=sum(segment.errors for segment in rounds),
        settle_milliseconds=1e3 * median(segment.settle_seconds for segment in rounds),
        generator_microseconds=_each(sum(s.generator_cpu_seconds for s in rounds), answered),
        cpu_microseconds={
            group: _each(sum(s.cpu_seconds.get(group, 0.0) for s in rounds), certificates)
            for group in groups
        },
    )


def _each(seconds: float, count: int) -> float:
    return MICROSECONDS * seconds / count if count else math.nan
