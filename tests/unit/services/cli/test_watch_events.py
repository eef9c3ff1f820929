"""News of projects' certificates from the event stream of a real NATS, or of one that is away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import pytest

from services.cli import stream_tail, watch_events
from services.cli.operator_access import OperatorAccess
from services.cli.watch_events import Events
from services.provisioning.nats.keys import new_seed
from tests.support.eventually import eventually
from tests.support.watching import ReadNats


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_tail, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(watch_events, "FIRST_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(watch_events, "LONGEST_RETRY_SECONDS", 0.2)


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[ReadNats]:
    nats = ReadNats(tmp_path)
    await nats.server.start()
    yield nats
    nats.server.stop()


class Listening:
    """A host that listens, in the test's own thread."""

    def __init__(self, access: OperatorAccess, *projects: str) -> None:
        self.events = Events(access, projects)
        self.said: list[str] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.events._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def hears(self, *projects: str) -> None:
        heard: set[str] = set()

        async def did() -> bool:
            heard.update(self.events.news())
            return heard == set(projects)

        await eventually(did, f"news of {projects}, of {heard}")

    async def says(self, text: str) -> None:
        async def did() -> bool:
            self.said += self.events.said()
            return any(text in each for each in self.said)

        await eventually(did, f"{text!r} among {self.said}")


@pytest.mark.parametrize("who", ["subscriber", "operator"])
async def test_news_come_of_what_is_watched(nats: ReadNats, who: str) -> None:
    access = nats.subscriber if who == "subscriber" else nats.operator
    async with Listening(access, "shop", "blog") as host:
        await host.hears("shop", "blog")  # after each time that nothing was heard
        assert host.events.come
        for verb in ("issued", "renewed", "uploaded", "removed", "revoked"):
            await nats.happens(verb, "shop")
            await host.hears("shop")
        await nats.happens("issued", "blog")
        await host.hears("blog")


async def test_what_is_of_others_is_no_news(nats: ReadNats) -> None:
    async with Listening(nats.subscriber, "shop") as host:
        await host.hears("shop")
        await nats.happens("issued", "blog")
        await nats.happens("expiring", "shop")
        await nats.happens("created", "shop", noun="ca")
        for broken in (b"", b"[]", b"{", b'"shop"', b'{"owner": ["shop"]}', b'{"owner": null}'):
            await nats.happens("issued", broken)
        await nats.happens("issued", {"shop": 1})
        await nats.happens("removed", "shop")
        await host.hears("shop")
        assert not host.events.news()


async def test_waiting_ends_with_news(nats: ReadNats) -> None:
    async with Listening(nats.subscriber, "shop") as host:
        await host.hears("shop")
        host.events.wait(0)
        waiting = asyncio.create_task(asyncio.to_thread(host.events.wait, 30))
        await nats.happens("issued", "shop")
        async with asyncio.timeout(15):
            await waiting
        assert host.events.news() == {"shop"}


async def test_a_nats_that_comes_back_is_heard_again(nats: ReadNats) -> None:
    async with Listening(nats.subscriber, "shop") as host:
        await host.hears("shop")
        nats.server.stop()
        await host.says("the stream is interrupted")

        async def none_come() -> bool:
            return not host.events.come

        await eventually(none_come, "no events")
        await asyncio.sleep(0.5)
        await nats.server.start()
        await host.hears("shop")  # whatever happened meanwhile
        await host.says("connected again")
        assert host.events.come
        await nats.happens("issued", "shop")
        await host.hears("shop")
        assert len(host.said) == 2


async def test_a_nats_that_is_not_there_yet_is_said_once(nats: ReadNats) -> None:
    nats.server.stop()
    async with Listening(nats.subscriber, "shop") as host:
        await host.says("is it running?; projects are looked at every few minutes meanwhile")
        await asyncio.sleep(1)
        assert not host.events.said()
        assert not host.events.come
        assert not host.events.news()
        await nats.server.start()
        await host.hears("shop")
    assert len(host.said) == 1


async def test_a_key_that_nats_does_not_know_is_said(nats: ReadNats) -> None:
    (nats.home / "edge.nk").write_text(new_seed())
    async with Listening(nats.subscriber, "shop") as host:
        await host.says("does not know the key")


@pytest.mark.parametrize("seed", ["", "no seed", "SU" * 29, None])
async def test_a_key_that_is_none_is_said_and_may_be_put_right(
    nats: ReadNats, seed: str | None
) -> None:
    file = nats.home / "edge.nk"
    right = file.read_text()
    access = nats.subscriber
    if seed is None:
        file.unlink()
    else:
        file.write_text(seed)
    async with Listening(access, "shop") as host:
        await host.says("projects are looked at every few minutes meanwhile")
        assert right.strip() not in "".join(host.said)
        file.write_text(right)
        await host.hears("shop")
        assert host.events.come


async def test_a_host_that_starts_again_takes_its_consumer_over(nats: ReadNats) -> None:
    """A subscriber has one consumer; that of a host which was cut off lives on for a while."""
    first = Listening(nats.subscriber, "shop")
    async with first:
        await first.hears("shop")
        async with Listening(nats.subscriber, "shop") as second:
            await second.hears("shop")
            await nats.happens("issued", "shop")
            await second.hears("shop")
