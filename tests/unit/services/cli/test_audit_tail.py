"""`certwire audit tail`: true records on standard output, anything else on standard error."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from contracts.subjects import AUDIT_CHECKPOINT, Service
from services.audit.domain.verification import Arrival
from services.cli import audit_tail
from services.cli.operator_access import OperatorSettings
from tests.support.audit import Chain, altered, arrival, publish
from tests.support.servers import Place
from tests.support.streams import certwire, mirrored, nats_alone, parsed


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with nats_alone(tmp_path) as (_, place):
        yield place


async def tail(place: Place, *words: str) -> int:
    arguments = parsed(audit_tail, "--no-follow", *words)
    async with asyncio.timeout(20):
        return await audit_tail._tail(place.settings(OperatorSettings), arguments)


async def recorded(place: Place, *records: dict[str, JsonValue], before: int = 0) -> None:
    arrivals = [arrival(record) for record in records]
    for each in arrivals:
        await publish(place, [each], each.subject.split(".")[2])
    await mirrored(place, "AUDIT", before + len(arrivals))


def sequences(output: str) -> list[str]:
    records = [json.loads(line) for line in output.splitlines()]
    return [f"{record['service']}#{record['sequence']}" for record in records]


async def test_a_person_reads_one_line_a_record(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Chain().next(serial="ab", note="two words")
    await recorded(place, record)
    assert await tail(place) == 0
    output = capsys.readouterr()
    assert output.err == ""
    (line,) = output.out.splitlines()
    assert line.split() == [
        str(record["time"])[:23] + "Z",
        "issuer#1",
        "user:Zoë",
        "cert_create",
        "certificate:CN=x",
        "success",
        'note="two',
        'words"',
        "serial=ab",
    ]


async def test_a_program_reads_the_canonical_record(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = Chain()
    await recorded(place, *(chain.next() for _ in range(3)))
    assert await tail(place, "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.encode() for line in lines] == [arrival(record).payload for record in chain.made]


async def test_it_prints_what_is_asked_for(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    issuer, registry = Chain(), Chain(Service.REGISTRY)
    records = [
        issuer.next(),
        registry.next("login_success"),
        issuer.next("cert_revoke"),
        issuer.next(),
        registry.next("login_failure"),
    ]
    await recorded(place, *records)
    everything = ["issuer#1", "registry#1", "issuer#2", "issuer#3", "registry#2"]
    asked: list[tuple[list[str], list[str]]] = [
        ([], everything),
        (["--lines", "2"], everything[-2:]),
        (["--lines", "0"], []),
        (["--from-sequence", "1"], everything),
        (["--from-sequence", "2"], ["issuer#2", "issuer#3", "registry#2"]),
        (["--service", "registry"], ["registry#1", "registry#2"]),
        (["--service", "registry", "--lines", "1"], ["registry#2"]),
        (["--service", "issuer", "--from-sequence", "3"], ["issuer#3"]),
        (["--action", "cert_create"], ["issuer#1", "issuer#3"]),
        (["--action", "cert_create", "--lines", "1"], ["issuer#3"]),
        (["--since", "10m"], everything),
        (["--since", "2100-01-01T00:00:00Z"], []),
    ]
    for words, expected in asked:
        assert await tail(place, "--json", *words) == 0
        assert sequences(capsys.readouterr().out) == expected, words


async def test_a_record_that_is_not_true_is_said_loudly_and_not_printed(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = Chain()
    one, two = chain.next(), chain.next()
    await recorded(place, one, altered(two, detail={"altered": True}), two)
    assert await tail(place, "--json") == 1
    output = capsys.readouterr()
    assert sequences(output.out) == ["issuer#1", "issuer#2"]
    assert "AUDIT LOG BROKEN: issuer#2 on certwire.audit.issuer.cert_create" in output.err
    assert "wrong_hash" in output.err


async def test_a_missing_record_is_said_loudly(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = Chain()
    one, _two, three = chain.next(), chain.next(), chain.next()
    await recorded(place, one, three)
    assert await tail(place) == 1
    assert "AUDIT LOG BROKEN: issuer#2 missing before issuer#3" in capsys.readouterr().err


async def test_copies_and_checkpoints_are_not_printed(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Chain().next()
    await recorded(place, record, record)
    await publish(place, [Arrival(AUDIT_CHECKPOINT, b"a signed note")], "audit")
    await mirrored(place, "AUDIT", 3)
    assert await tail(place, "--json") == 0
    output = capsys.readouterr()
    assert sequences(output.out) == ["issuer#1"]
    assert output.err == ""


async def test_it_follows_until_ctrl_c_and_ends_quietly(place: Place) -> None:
    chain = Chain()
    async with certwire(place, "audit", "tail", "--json") as process, asyncio.timeout(20):
        assert process.stdout is not None
        await recorded(place, chain.next())
        assert sequences((await process.stdout.readline()).decode()) == ["issuer#1"]
        await recorded(place, chain.next(), before=1)
        assert sequences((await process.stdout.readline()).decode()) == ["issuer#2"]
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
        assert (output, errors) == (b"", b"")
        assert process.returncode == 130


async def test_a_reader_that_has_seen_enough_is_no_error(place: Place) -> None:
    chain = Chain()
    await recorded(place, *(chain.next() for _ in range(3)))
    command = (place, "audit", "tail", "--json", "--from-sequence", "1")
    async with certwire(*command) as process, asyncio.timeout(20):
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]  # as `head` does
        await recorded(place, *(chain.next() for _ in range(3)), before=3)
        assert await process.stderr.read() == b""
        assert await process.wait() == 1


async def test_without_a_server_one_line_says_so(tmp_path: Path, place: Place) -> None:
    nowhere = Place(tmp_path, nats_url="nats://127.0.0.1:1")
    async with certwire(nowhere, "audit", "tail") as process:
        _, errors = await process.communicate()
    text = "certwire: NATS does not answer at nats://127.0.0.1:1: is it running?\n"
    assert errors.decode() == text
    assert process.returncode == 1
    assert place.home == tmp_path
