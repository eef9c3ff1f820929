"""Streams and mirrors on a real server: their settings, and that they outlive a wiped store."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from nats.js.api import DiscardPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import Error as JetStreamError

from contracts.subjects import AUDIT_CONSUMER
from services.provisioning.nats import ProvisioningError, provision_streams
from services.provisioning.nats.permissions import Account
from tests.nats_server import NatsHome

STREAMS, READERS = Account.STREAMS, Account.READERS


async def info(home: NatsHome, account: Account, stream: str) -> StreamInfo:
    async with home.connected("provision", account) as client:
        return await client.jetstream().stream_info(stream)


async def publish(home: NatsHome, count: int) -> None:
    async with home.connected("issuer", STREAMS) as client:
        jetstream = client.jetstream()
        for _ in range(count):
            await jetstream.publish("certwire.events.ca.created", b"{}", stream="EVENTS")
            await jetstream.publish("certwire.audit.issuer.ca_create", b"{}", stream="AUDIT")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(250):
        if await condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it did not become so within 5 s")


async def mirrored(home: NatsHome, messages: int) -> None:
    async def so() -> bool:
        infos = [await info(home, READERS, stream) for stream in ("EVENTS", "AUDIT")]
        return all(info.state.messages == messages for info in infos)

    await until(so)


async def test_streams_keep_what_they_were_given(tmp_path: Path) -> None:
    home = NatsHome(tmp_path)
    with home.serving():
        await provision_streams(home.url, home.secrets)
        for stream in ("EVENTS", "AUDIT"):
            config = (await info(home, STREAMS, stream)).config
            assert config.subjects == [f"certwire.{stream.lower()}.>"]
            assert config.storage == StorageType.FILE
            assert config.discard == DiscardPolicy.NEW
            assert config.max_age == 30 * 86400
            assert config.duplicate_window == 120
            assert config.deny_delete
            assert config.deny_purge
            mirror = (await info(home, READERS, stream)).config
            assert mirror.mirror is not None
            assert mirror.deny_delete
            assert mirror.deny_purge
        async with home.connected("audit", STREAMS) as client:
            consumer = await client.jetstream().consumer_info("AUDIT", AUDIT_CONSUMER)
            assert consumer.config.deliver_subject is None


async def test_provisioning_again_changes_nothing(tmp_path: Path) -> None:
    home = NatsHome(tmp_path)
    with home.serving():
        await provision_streams(home.url, home.secrets)
        await publish(home, 3)
        await mirrored(home, 3)
        before = [await info(home, account, "AUDIT") for account in (STREAMS, READERS)]
        await provision_streams(home.url, home.secrets)
        after = [await info(home, account, "AUDIT") for account in (STREAMS, READERS)]
        assert [i.created for i in before] == [i.created for i in after]
        assert [i.state.last_seq for i in after] == [3, 3]


async def test_provisioning_brings_a_stream_of_other_settings_up_to_date(tmp_path: Path) -> None:
    home = NatsHome(tmp_path)
    with home.serving():
        async with home.connected("provision", STREAMS) as client:
            await client.jetstream().add_stream(
                StreamConfig(name="EVENTS", subjects=["certwire.events.>"], max_age=60)
            )
        await provision_streams(home.url, home.secrets)
        assert (await info(home, STREAMS, "EVENTS")).config.max_age == 30 * 86400


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    home = NatsHome(tmp_path)
    with home.serving():
        await provision_streams(home.url, home.secrets)
        await publish(home, 3)
        await mirrored(home, 3)
    with home.serving():
        await provision_streams(home.url, home.secrets)
        await publish(home, 1)
        await mirrored(home, 4)


@pytest.mark.parametrize("wiped", ["", "jetstream/STREAMS", "jetstream/READERS"])
async def test_mirrors_follow_again_after_a_wiped_store(tmp_path: Path, wiped: str) -> None:
    home = NatsHome(tmp_path)
    with home.serving():
        await provision_streams(home.url, home.secrets)
        await publish(home, 5)
        await mirrored(home, 5)
    shutil.rmtree(home.store / wiped)
    with home.serving():
        await provision_streams(home.url, home.secrets)
        kept = (await info(home, STREAMS, "EVENTS")).state.messages
        assert kept == (5 if wiped == "jetstream/READERS" else 0)
        await publish(home, 2)
        await mirrored(home, kept + 2)


async def test_a_mirror_carries_a_flood(tmp_path: Path) -> None:
    """Flow control crosses the accounts: without it a mirror stalls."""
    home = NatsHome(tmp_path)
    with home.serving():
        await provision_streams(home.url, home.secrets)
        async with home.connected("issuer", STREAMS) as client:
            for number in range(30_000):
                await client.publish("certwire.events.ca.created", b"x" * 1000)
                if number % 1000 == 0:
                    await client.flush()
            await client.flush()

        async def so() -> bool:
            states = [(await info(home, each, "EVENTS")).state for each in (STREAMS, READERS)]
            return states[0].messages == states[1].messages == 30_000

        await until(so)


async def test_provisioning_waits_for_the_server(tmp_path: Path) -> None:
    home = NatsHome(tmp_path)
    waiting = asyncio.create_task(provision_streams(home.url, home.secrets))
    await asyncio.sleep(0.3)
    with home.serving():
        await waiting
        assert (await info(home, READERS, "AUDIT")).config.mirror is not None


async def test_provisioning_says_when_there_is_no_server(tmp_path: Path) -> None:
    home = NatsHome(tmp_path)
    with pytest.raises(ProvisioningError, match=home.url):
        await provision_streams(home.url, home.secrets, timeout_seconds=0.5)


async def test_a_message_that_was_stored_cannot_be_deleted(tmp_path: Path) -> None:
    home = NatsHome(tmp_path)
    with home.serving():
        await provision_streams(home.url, home.secrets)
        await publish(home, 1)
        async with home.connected("provision", STREAMS) as client:
            config = (await client.jetstream().stream_info("AUDIT")).config
            config.deny_delete = False
            with pytest.raises(JetStreamError):
                await client.jetstream().update_stream(config)
