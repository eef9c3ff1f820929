import json

from tests.bench.report import json_report, text
from tests.bench.summary import Segment


def segment(server: str, elapsed_seconds: float, cpu_seconds: dict[str, float]) -> Segment:
    return Segment(
        server=server,
        connections=16,
        round_number=1,
        latencies_seconds=[0.01] * 100,
        errors=0,
        elapsed_seconds=elapsed_seconds,
        settle_seconds=0.02,
        generator_cpu_seconds=0.05,
        cpu_seconds=cpu_seconds,
    )


SEGMENTS = [
    segment("certwire", 0.1, {"gateway": 0.02, "issuer": 0.03}),
    segment("openbao raft", 0.2, {"openbao": 0.04}),
    segment("openbao postgres", 0.4, {"openbao": 0.04, "postgres": 0.01}),
]


def test_the_table_shows_rates_ratios_and_cpu() -> None:
    report = text(SEGMENTS, {"machine": "2 cores"}, "response")
    lines = report.splitlines()
    assert lines[0] == "machine: 2 cores"
    assert "µs a response" in report
    rows = [line.split() for line in lines]
    assert any(row[:3] == ["16", "certwire", "1,000"] for row in rows)
    assert any(row[:4] == ["16", "openbao", "raft", "500"] and "2.00" in row for row in rows)
    assert any(row[:4] == ["16", "openbao", "postgres", "250"] and "4.00" in row for row in rows)
    assert ["16", "certwire", "500", "200", "300", "500"] in rows
    assert ["16", "openbao", "raft", "400", "500"] in rows
    assert ["16", "openbao", "postgres", "500", "100", "500"] in rows


def test_one_server_alone_has_no_ratio() -> None:
    assert "Certwire to it" in text(SEGMENTS[1:], {}, "response")
    assert json_report(SEGMENTS[:1], {})["ratios"] == {}


def test_json_has_rows_ratios_and_rounds() -> None:
    content = json.loads(json.dumps(json_report(SEGMENTS, {"machine": "2 cores"})))
    assert content["ratios"]["openbao raft"]["16"]["median"] == 2.0
    assert content["ratios"]["openbao postgres"]["16"]["median"] == 4.0
    assert [row["server"] for row in content["rows"]] == [
        "certwire",
        "openbao raft",
        "openbao postgres",
    ]
    assert len(content["rounds"]) == 3
