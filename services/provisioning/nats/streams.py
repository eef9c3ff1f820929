"""The streams and their mirrors: created, or brought up to date, after every start of NATS.

1. EVENTS and AUDIT in STREAMS, which nothing but age takes a message from.
2. The durable consumer of the audit service.
3. The mirrors in READERS. One that is older than its origin, or ahead of it, mirrors a stream that
   is gone (a wiped store): it would wait for sequences long past, so it is made anew.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    ExternalStream,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
    StreamSource,
)
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

from contracts.subjects import (
    AUDIT_CONSUMER,
    AUDIT_STREAM,
    AUDIT_WILDCARD,
    EVENTS_STREAM,
    EVENTS_WILDCARD,
    inbox,
)
from services.provisioning.nats.configuration import MIRROR_API, MIRROR_DELIVERY
from services.provisioning.nats.keys import seed_file
from services.provisioning.nats.permissions import PROVISION, Account, User

SUBJECTS: Final = {EVENTS_STREAM: EVENTS_WILDCARD, AUDIT_STREAM: AUDIT_WILDCARD}
KEPT_SECONDS: Final = 30 * 86400  # the architecture's 30 days
DUPLICATE_WINDOW_SECONDS: Final = 120
ACK_WAIT_SECONDS: Final = 5  # what a killed audit service had in hand comes again after it
MAX_ACK_PENDING: Final = 5000
RETRY_SECONDS: Final = 0.2


class ProvisioningError(Exception):
    """The streams could not be provisioned in time; the message tells a person why."""


async def provision_streams(
    url: str,
    secrets: Path,
    *,
    replicas: int = 1,
    ca_file: Path | None = None,
    timeout_seconds: float = 30,
) -> None:
    """Create or update streams, consumer and mirrors; waits for the server, and may be repeated.

    `replicas` is 1, or 3 in a cluster of three. Raises `ProvisioningError`.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 1)):
                await _provision(url, secrets, replicas, ca_file)
        except (NatsError, JetStreamError, OSError, TimeoutError) as error:
            if time.monotonic() + RETRY_SECONDS > deadline:
                reason = str(error) or type(error).__name__
                raise ProvisioningError(f"NATS at {url}: {reason}") from error
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


async def _provision(url: str, secrets: Path, replicas: int, ca_file: Path | None) -> None:
    async with (
        _connected(url, secrets, Account.STREAMS, ca_file) as streams,
        _connected(url, secrets, Account.READERS, ca_file) as readers,
    ):
        origins, mirrors = streams.jetstream(), readers.jetstream()
        for name in SUBJECTS:
            await _ensure(origins, _origin(name, replicas))
        await origins.add_consumer(AUDIT_STREAM, _audit_consumer())
        for name in SUBJECTS:
            await _drop_stale_mirror(mirrors, origins, name)
            await _ensure(mirrors, _mirror(name, replicas))


@asynccontextmanager
async def _connected(
    url: str, secrets: Path, account: Account, ca_file: Path | None
) -> AsyncIterator[Client]:
    async def ignore(_problem: Exception) -> None:
        """Say nothing: what fails here raises as well."""

    client = Client()
    try:
        await client.connect(
            url,
            name="certwire-provision",
            nkeys_seed=str(seed_file(secrets, User(PROVISION, account))),
            inbox_prefix=inbox(PROVISION).encode(),
            tls=ssl.create_default_context(cafile=ca_file) if ca_file else None,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=2,
            error_cb=ignore,
        )
        yield client
    finally:
        await client.close()


async def _ensure(jetstream: JetStreamContext, config: StreamConfig) -> None:
    try:
        await jetstream.add_stream(config)
    except JetStreamError:  # it exists, and differs
        await jetstream.update_stream(config)


async def _drop_stale_mirror(
    mirrors: JetStreamContext, origins: JetStreamContext, name: str
) -> None:
    try:
        mirror = await mirrors.stream_info(name)
    except NotFoundError:
        return
    origin = await origins.stream_info(name)  # asked second: a true mirror can't be ahead of it
    if _created(mirror) < _created(origin) or mirror.state.last_seq > origin.state.last_seq:
        await mirrors.delete_stream(name)


def _created(info: StreamInfo) -> datetime:
    if not isinstance(info.created, datetime):
        raise TypeError("the server does not say when it created the stream")
    return info.created


def _origin(name: str, replicas: int) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=[SUBJECTS[name]],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=KEPT_SECONDS,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
        deny_delete=True,
        deny_purge=True,
        allow_direct=True,
        num_replicas=replicas,
    )


def _mirror(name: str, replicas: int) -> StreamConfig:
    return StreamConfig(
        name=name,
        mirror=StreamSource(
            name=name, external=ExternalStream(api=MIRROR_API, deliver=MIRROR_DELIVERY)
        ),
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=KEPT_SECONDS,
        deny_delete=True,
        deny_purge=True,
        num_replicas=replicas,
    )


def _audit_consumer() -> ConsumerConfig:
    return ConsumerConfig(
        name=AUDIT_CONSUMER,
        durable_name=AUDIT_CONSUMER,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        max_ack_pending=MAX_ACK_PENDING,
        max_deliver=-1,
    )
