"""Whether everything that was committed has been told: to the streams, and to the audit service."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nats.aio.client import Client as Nats
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from contracts.audit import GENESIS_HASH, record_hash
from contracts.subjects import AUDIT_STREAM, EVENTS_STREAM
from tests.support.eventually import eventually
from tests.support.platform import Platform

OWNERS = ("issuer", "registry", "instance", "acme", "audit")
"""The services that have an outbox."""
MESSAGE_SECONDS = 10


@dataclass(frozen=True)
class Streamed:
    """A message of a stream."""

    subject: str
    headers: dict[str, str]
    payload: bytes


@asynccontextmanager
async def operator(platform: Platform) -> AsyncIterator[Nats]:
    """Lend a connection as the operator, who reads the streams."""
    access = json.loads((platform.bootstrap / "nats-operator.json").read_text())
    client = Nats()
    try:
        await client.connect(
            access["url"],
            nkeys_seed=access["nkey"],
            inbox_prefix=access["inbox_prefix"].encode(),
            allow_reconnect=False,
        )
        yield client
    finally:
        await client.close()  # a server that is just starting may have left it half open, too


async def streamed(platform: Platform, stream: str) -> list[Streamed]:
    """Return every message of a stream, as far as its mirror has come."""
    async with operator(platform) as client:
        jetstream = client.jetstream()
        count = (await jetstream.stream_info(stream)).state.messages
        subscription = await jetstream.subscribe(">", stream=stream, ordered_consumer=True)
        found = []
        for _ in range(count):
            message = await subscription.next_msg(MESSAGE_SECONDS)
            found.append(Streamed(message.subject, message.headers or {}, message.data))
        return found


async def assert_everything_is_told(platform: Platform, *, seconds: float = 30) -> None:
    """Wait until the streams and the audit service have all that the outboxes have, once."""
    await eventually(
        lambda: _is_kept(platform), "the audit service has every record", seconds=seconds
    )
    await eventually(lambda: _is_streamed(platform), "EVENTS has every event", seconds=seconds)
    await assert_the_audit_log_is_sound(platform)


async def assert_the_audit_log_is_sound(platform: Platform) -> None:
    """Recompute every chain from what the audit service keeps, and compare with the outboxes."""
    for service in OWNERS:
        records = [
            json.loads(text)
            for text in await platform.values(
                "SELECT record FROM audit.record WHERE service = $1 ORDER BY position", service
            )
        ]
        previous = GENESIS_HASH
        for sequence, record in enumerate(records, start=1):
            assert record["sequence"] == sequence, f"{service}: not in order, or not once"
            assert record["previous_hash"] == previous
            previous = record["hash"]
            assert record_hash(record) == previous
        ids = await platform.values(
            f"SELECT entry::json ->> 'id' FROM {service}.outbox ORDER BY sequence"  # noqa: S608 - a name of ours
        )
        # Either may be longer: the platform goes on while they are read.
        both = min(len(ids), len(records))
        assert ids[:both] == [record["id"] for record in records][:both]
    assert await platform.values("SELECT reason FROM audit.violation") == []


async def _is_kept(platform: Platform) -> bool:
    for service in OWNERS:
        kept, written, published = [
            await platform.value(query.format(service=service))
            for query in (
                "SELECT count(*) FROM audit.record WHERE service = '{service}'",
                "SELECT count(*) FROM {service}.outbox",
                "SELECT published FROM {service}.relay",
            )
        ]
        if not kept == written == published:
            return False
    return True


async def _is_streamed(platform: Platform) -> bool:
    try:
        events = await streamed(platform, EVENTS_STREAM)
        records = await streamed(platform, AUDIT_STREAM)
    except (NatsError, JetStreamError, OSError, TimeoutError):
        return False  # not there yet, or just made anew
    for service in OWNERS:
        written = await platform.rows(
            f"SELECT entry::json ->> 'id' AS id, event IS NOT NULL AS told FROM {service}.outbox"  # noqa: S608 - a name of ours
            " ORDER BY sequence"
        )
        source = f"/certwire/{service}"
        ours = [event.headers["ce-id"] for event in events if event.headers["ce-source"] == source]
        if ours != [row["id"] for row in written if row["told"]]:
            return False
        subject = f"certwire.audit.{service}."
        ours = [json.loads(r.payload)["id"] for r in records if r.subject.startswith(subject)]
        if ours != [row["id"] for row in written]:
            return False
    return True
