import math

import pytest

from tests.bench.summary import Segment, Spread, percentile, ratios, summarize


def segment(
    server: str = "certwire",
    connections: int = 1,
    round_number: int = 1,
    latencies_seconds: tuple[float, ...] = (0.001, 0.002, 0.003, 0.004),
    *,
    errors: int = 0,
    elapsed_seconds: float = 1.0,
    generator_cpu_seconds: float = 0.0,
    cpu_seconds: dict[str, float] | None = None,
) -> Segment:
    return Segment(
        server=server,
        connections=connections,
        round_number=round_number,
        latencies_seconds=latencies_seconds,
        errors=errors,
        elapsed_seconds=elapsed_seconds,
        settle_seconds=0.0,
        generator_cpu_seconds=generator_cpu_seconds,
        cpu_seconds=cpu_seconds or {},
    )


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (100, 100)]
)
def test_a_percentile_is_the_nearest_rank(percent: float, value: int) -> None:
    assert percentile(range(1, 101), percent) == value


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.0], percent) for percent in (0, 50, 100)] == [7.0] * 3


def test_there_is_no_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 50))


def test_a_spread_is_the_median_with_its_extremes() -> None:
    assert Spread.of([4, 1, 3, 2]) == Spread(2.5, 1, 4)


def test_a_rate_counts_successes_only() -> None:
    assert segment(errors=6, elapsed_seconds=2.0).rate == 2.0


def test_rounds_become_one_row_of_medians() -> None:
    rounds = [
        segment(round_number=number, elapsed_seconds=seconds)
        for number, seconds in ((1, 1.0), (2, 2.0), (3, 4.0))
    ]
    (row,) = summarize(rounds)
    assert row.rate == Spread(2.0, 1.0, 4.0)
    assert row.latency_milliseconds == {50: 2.0, 90: 4.0, 99: 4.0}


def test_the_maximum_is_of_all_rounds() -> None:
    rounds = [segment(latencies_seconds=(0.5,)), segment(latencies_seconds=(0.1,), round_number=2)]
    (row,) = summarize(rounds)
    assert row.max_milliseconds == 500.0


def test_cpu_is_divided_by_the_certificates_of_all_rounds() -> None:
    rounds = [
        segment(round_number=1, cpu_seconds={"issuer": 0.006, "gateway": 0.002}, errors=4),
        segment(round_number=2, cpu_seconds={"issuer": 0.002}, generator_cpu_seconds=0.012),
    ]
    (row,) = summarize(rounds)
    assert row.cpu_microseconds == pytest.approx({"issuer": 1_000, "gateway": 250})
    assert row.total_cpu_microseconds == pytest.approx(1_250)
    assert row.generator_microseconds == pytest.approx(1_000)
    assert row.errors == 4


def test_a_row_without_any_success_has_no_numbers_but_its_errors() -> None:
    (row,) = summarize([segment(latencies_seconds=(), errors=3, cpu_seconds={"issuer": 1.0})])
    assert row.errors == 3
    assert row.rate.median == 0.0
    assert math.isnan(row.max_milliseconds)
    assert math.isnan(row.cpu_microseconds["issuer"])


def test_servers_and_connections_have_rows_of_their_own() -> None:
    segments = [
        segment(server, connections)
        for connections in (1, 64)
        for server in ("certwire", "openbao")
    ]
    rows = [(row.server, row.connections) for row in summarize(segments)]
    assert rows == [("certwire", 1), ("openbao", 1), ("certwire", 64), ("openbao", 64)]


def test_a_ratio_is_taken_within_each_round() -> None:
    segments = [
        segment("certwire", round_number=1, elapsed_seconds=1.0),
        segment("openbao", round_number=1, elapsed_seconds=2.0),
        segment("certwire", round_number=2, elapsed_seconds=10.0),
        segment("openbao", round_number=2, elapsed_seconds=10.0),
    ]
    assert ratios(segments, "certwire", "openbao") == {1: Spread(1.5, 1.0, 2.0)}


def test_there_is_no_ratio_without_both_servers() -> None:
    assert ratios([segment("certwire")], "certwire", "openbao") == {}
    failed = segment("openbao", latencies_seconds=(), errors=1)
    assert ratios([segment("certwire"), failed], "certwire", "openbao") == {}
