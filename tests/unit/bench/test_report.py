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
    segment("openbao", 0.2, {"openbao": 0.04}),
]


def test_the_table_shows_rates_ratio_and_cpu() -> None:
    lines = text(SEGMENTS, {"machine": "2 cores"}).splitlines()
    assert lines[0] == "machine: 2 cores"
    assert any(line.split()[:3] == ["16", "certwire", "1,000"] and "2.00" in line for line in lines)
    assert any(line.split() == ["16", "certwire", "500", "200", "300", "500"] for line in lines)
    assert any(line.split() == ["16", "openbao", "400", "500"] for line in lines)


def test_one_server_alone_has_no_ratio() -> None:
    assert "ratio" in text(SEGMENTS[1:], {})
    assert json_report(SEGMENTS[1:], {})["ratios"] == {}


def test_json_has_rows_ratios_and_rounds() -> None:
    content = json.loads(json.dumps(json_report(SEGMENTS, {"machine": "2 cores"})))
    assert content["ratios"]["16"]["median"] == 2.0
    assert [row["server"] for row in content["rows"]] == ["certwire", "openbao"]
    assert len(content["rounds"]) == 2
