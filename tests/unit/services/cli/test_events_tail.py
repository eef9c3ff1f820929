"""`certwire events tail`."""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.cli import events_tail
from services.cli.operator_access import OperatorSettings
from services.cli.stream_tail import Delivered
from shared.clock import rfc3339, utc_now
from tests.support.servers import Place
from tests.support.streams import certwire, happen, mirrored, nats_alone, parsed


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with nats_alone(tmp_path) as (_, place):
        yield place


async def tail(place: Place, *words: str) -> int:
    arguments = parsed(events_tail, "--no-follow", *words)
    async with asyncio.timeout(20):
        return await events_tail._tail(place.settings(OperatorSettings), arguments)


def headers(event_id: str, event_type: str = "ca.created") -> dict[str, str]:
    return {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": "/certwire/issuer",
        "ce-type": f"certwire.{event_type}",
        "ce-subject": "platform-1",
        "ce-time": rfc3339(utc_now()),
        "content-type": "application/json",
    }


async def events(place: Place, *types: str) -> None:
    for number, event_type in enumerate(types):
        subject = f"certwire.events.{event_type}"
        await happen(place, [b'{"ca":"platform-1"}'], subject, headers(str(number), event_type))
    await mirrored(place, "EVENTS", len(types))


async def test_a_person_reads_one_line_an_event(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    await events(place, "ca.created")
    assert await tail(place) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[1:] == ["#1", "ca.created", "platform-1", "ca=platform-1"]


async def test_a_program_reads_cloud_events(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    await events(place, "ca.created")
    assert await tail(place, "--json") == 0
    event = json.loads(capsys.readouterr().out)
    assert event.pop("time").endswith("Z")
    assert event == {
        "specversion": "1.0",
        "id": "0",
        "source": "/certwire/issuer",
        "type": "certwire.ca.created",
        "subject": "platform-1",
        "streamsequence": 1,
        "data": {"ca": "platform-1"},
    }


async def test_it_prints_what_is_asked_for(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    await events(place, "ca.created", "certificate.issued", "certificate.renewed", "ca.created")
    asked = [
        ([], [1, 2, 3, 4]),
        (["--lines", "2"], [3, 4]),
        (["--from-sequence", "3"], [3, 4]),
        (["--from-sequence", "9"], []),
        (["--type", "certificate"], [2, 3]),
        (["--type", "certificate.issued"], [2]),
        (["--type", "ca", "--lines", "1"], [4]),
        (["--since", "1h"], [1, 2, 3, 4]),
    ]
    for words, expected in asked:
        assert await tail(place, "--json", *words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [json.loads(line)["streamsequence"] for line in lines] == expected, words


async def test_an_event_that_was_published_again_is_printed_once(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        await happen(place, [b"{}"], headers=headers("same"))
    await mirrored(place, "EVENTS", 2)
    assert await tail(place, "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_of_a_stream_that_is_filled_again_only_what_is_new_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def at(minute: int) -> Delivered:
        attributes = {"ce-id": str(minute), "ce-time": f"2026-01-01T00:0{minute}:00.000000Z"}
        return Delivered("certwire.events.ca.created", minute, attributes, b"{}")

    printer = events_tail._Printer(parsed(events_tail, "--json", "--since", "1h"))
    printer.take(at(3), again=False)
    for minute in (1, 2, 3, 4):
        printer.take(at(minute), again=True)
    ids = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert ids == ["3", "4"]


@pytest.mark.parametrize("text", ["", ".", "a.b.c", ">", "Certificate", "a.", "*.x"])
def test_a_type_is_a_noun_or_a_noun_and_a_verb(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        events_tail._type(text)


async def test_it_follows_in_a_process_of_its_own(place: Place) -> None:
    async with certwire(place, "events", "tail", "--json") as process, asyncio.timeout(20):
        assert process.stdout is not None
        await events(place, "ca.created")
        assert json.loads(await process.stdout.readline())["type"] == "certwire.ca.created"
