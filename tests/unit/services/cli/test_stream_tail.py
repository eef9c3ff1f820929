"""A stream followed by the operator, on a real server, through its restarts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.cli import stream_tail
from services.cli.errors import CliError
from services.cli.operator_access import OperatorAccess, OperatorSettings
from services.cli.stream_tail import CaughtUp, Delivered, Start, StreamTail
from services.provisioning.nats.keys import new_seed
from tests.support import streams as streams_support
from tests.support.audit import streams_client
from tests.support.servers import NatsServer, Place
from tests.support.streams import nats_alone


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_tail, "RETRY_SECONDS", 0.1)


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[tuple[NatsServer, Place]]:
    async with nats_alone(tmp_path) as both:
        yield both


def a_tail(place: Place, filter_subject: str | None = None) -> StreamTail:
    settings = place.settings(OperatorSettings)
    return StreamTail(OperatorAccess.find(settings), "EVENTS", filter_subject)


async def happen(place: Place, *texts: str, subject: str = "certwire.events.ca.created") -> None:
    await streams_support.happen(place, [text.encode() for text in texts], subject)


async def mirrored(place: Place, count: int) -> None:
    await streams_support.mirrored(place, "EVENTS", count)


def shown(item: Delivered | CaughtUp) -> str:
    return item.payload.decode() if isinstance(item, Delivered) else "--"


@asynccontextmanager
async def following(tail: StreamTail, start: Start) -> AsyncIterator["Following"]:
    async with aclosing(tail.follow(start)) as items:
        yield Following(items)


class Following:
    def __init__(self, items: AsyncIterator[Delivered | CaughtUp]) -> None:
        self._items = items

    async def next(self, count: int) -> list[str]:
        async with asyncio.timeout(20):
            return [shown(await anext(self._items)) for _ in range(count)]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (Start(sequence=1), ["a", "b", "c", "--"]),
        (Start(sequence=3), ["c", "--"]),
        (Start(last=2), ["b", "c", "--"]),
        (Start(last=99), ["a", "b", "c", "--"]),
        (Start(last=0), ["--"]),
        (Start(time=datetime(2020, 1, 1, tzinfo=UTC)), ["a", "b", "c", "--"]),
        (Start(time=datetime(2100, 1, 1, tzinfo=UTC)), ["--"]),
    ],
)
async def test_it_begins_where_it_is_told(
    streams: tuple[NatsServer, Place], start: Start, expected: Sequence[str]
) -> None:
    _, place = streams
    await happen(place, "a", "b", "c")
    await mirrored(place, 3)
    async with following(a_tail(place), start) as tail:
        assert await tail.next(len(expected)) == expected


async def test_what_comes_later_comes_live(streams: tuple[NatsServer, Place]) -> None:
    _, place = streams
    async with following(a_tail(place), Start(sequence=1)) as tail:
        assert await tail.next(1) == ["--"]
        await happen(place, "a")
        await happen(place, "b")
        assert await tail.next(2) == ["a", "b"]


async def test_a_filter_lets_only_its_own_pass(streams: tuple[NatsServer, Place]) -> None:
    _, place = streams
    await happen(place, "a")
    await happen(place, "b", subject="certwire.events.certificate.issued")
    await happen(place, "c")
    await mirrored(place, 3)
    async with following(a_tail(place, "certwire.events.certificate.*"), Start(last=3)) as tail:
        assert await tail.next(2) == ["b", "--"]


async def test_a_flood_arrives_whole(streams: tuple[NatsServer, Place]) -> None:
    _, place = streams
    count = 20_000
    async with streams_client(place, "issuer") as client:
        for number in range(count):
            await client.publish("certwire.events.ca.created", b"%d" % number + b" " * 500)
        await client.flush()
    await mirrored(place, count)
    async with following(a_tail(place), Start(sequence=1)) as tail:
        found = await tail.next(count + 1)
    assert [int(text) for text in found[:-1]] == list(range(count))


async def test_it_goes_on_after_a_restart_of_the_server(
    streams: tuple[NatsServer, Place], capsys: pytest.CaptureFixture[str]
) -> None:
    server, place = streams
    await happen(place, "a")
    await mirrored(place, 1)
    async with following(a_tail(place), Start(last=10)) as tail:
        assert await tail.next(2) == ["a", "--"]
        server.stop()
        waiting = asyncio.create_task(tail.next(1))
        await asyncio.sleep(0.3)
        await server.start()
        await happen(place, "b")
        assert await waiting == ["b"]
    said = capsys.readouterr().err
    assert "interrupted" in said
    assert "connected again" in said


async def test_a_wiped_stream_is_read_from_its_start(streams: tuple[NatsServer, Place]) -> None:
    server, place = streams
    await happen(place, "a", "b", "c")
    await mirrored(place, 3)
    following_tail = a_tail(place)
    async with following(following_tail, Start(sequence=1)) as tail:
        assert await tail.next(4) == ["a", "b", "c", "--"]
        waiting = asyncio.create_task(tail.next(2))
        server.stop()
        server.wipe()
        await server.start()
        await happen(place, "x", "y")
        assert await waiting == ["x", "y"]
    assert following_tail.made_anew


async def test_silence_is_noticed(
    streams: tuple[NatsServer, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server sends heartbeats; without them the consumer is gone."""
    _, place = streams
    monkeypatch.setattr(stream_tail, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(stream_tail, "HEARTBEAT_SECONDS", 10.0)
    await happen(place, "a")
    await mirrored(place, 1)
    async with following(a_tail(place), Start(last=1)) as tail:
        assert await tail.next(2) == ["a", "--"]
        waiting = asyncio.create_task(tail.next(1))
        await asyncio.sleep(0.6)
        await happen(place, "b")
        assert await waiting == ["b"]


async def test_a_person_is_told_why_there_is_nothing(
    streams: tuple[NatsServer, Place],
) -> None:
    server, place = streams
    access = OperatorAccess.find(place.settings(OperatorSettings))
    access.seed_file.write_text(new_seed())
    with pytest.raises(CliError, match="does not know the key"):
        await anext(StreamTail(access, "EVENTS", None).follow(Start()))
    server.stop()
    with pytest.raises(CliError, match="is it running"):
        await anext(StreamTail(access, "EVENTS", None).follow(Start()))
