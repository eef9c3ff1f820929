"""Status changes that an outside system reports over NATS."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.instance import GetInstance, Instance
from contracts.principal import PrincipalKind
from contracts.subjects import REQUEST_INFO, Service
from services.instance.handlers.inbound import receive_status
from services.instance.service import Instances
from services.instance.settings import InstanceSettings
from shared.broker import ERROR_HEADER, close, connect, nats_broker
from shared.runtime import Runtime
from tests.contract.instance.dialogue import ADMIN, Dialogue, Guest
from tests.support.running import call

SUBJECT = "certwire.inbound.orchestrator.instance.status"


@pytest.fixture
async def orchestrator(instances: Dialogue) -> AsyncIterator[Client]:
    """A user of the readers' account that may report on its own subject."""
    settings = instances.place.settings(InstanceSettings)
    broker = nats_broker(settings, "orchestrator", "readers")
    yield await connect(broker)
    await close(broker)


async def _report(
    client: Client, body: dict[str, Any] | bytes, message_id: str | None
) -> tuple[str | None, dict[str, Any]]:
    headers = {"ce-id": message_id} if message_id is not None else None
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await client.request(SUBJECT, payload, timeout=5, headers=headers)
    return (reply.headers or {}).get(ERROR_HEADER), json.loads(reply.data)


def _body(guest: Guest, status: str) -> dict[str, Any]:
    return {"instance_id": str(guest.id), "status": status}


async def test_a_reported_status_is_applied_and_answered(
    instances: Dialogue, orchestrator: Client
) -> None:
    guest = await instances.register()
    error, reply = await _report(orchestrator, _body(guest, "running"), "m1")
    assert error is None
    assert Instance.model_validate(reply).status == "running"
    found = await instances.send(GetInstance(call=call(), principal=ADMIN, instance_id=guest.id))
    assert found.status == "running"
    actors = await instances.count(
        "SELECT count(*) FROM outbox WHERE entry::jsonb -> 'actor' ->> 'id' = 'orchestrator'"
        " AND entry::jsonb -> 'actor' ->> 'kind' = $1",
        PrincipalKind.SUBSCRIBER,
    )
    assert actors == 1


async def test_the_same_message_takes_effect_once(
    instances: Dialogue, orchestrator: Client
) -> None:
    guest = await instances.running()
    replies = await asyncio.gather(
        *(_report(orchestrator, _body(guest, "stopped"), "m1") for _ in range(10))
    )
    assert all(reply == replies[0] for reply in replies)
    await _report(orchestrator, _body(guest, "running"), "m2")
    assert await _report(orchestrator, _body(guest, "stopped"), "m1") == replies[0]
    found = await instances.send(GetInstance(call=call(), principal=ADMIN, instance_id=guest.id))
    assert found.status == "running"


async def test_who_sent_it_is_said_by_the_server_alone(
    instances: Dialogue, orchestrator: Client
) -> None:
    """A reader can make JetStream send to somebody else's subject; the server then says so."""
    guest = await instances.register()
    payload = json.dumps(_body(guest, "running")).encode()
    forged = {"ce-id": "m1", REQUEST_INFO: '{"kind": "JetStream"}'}
    reply = await orchestrator.request(SUBJECT, payload, timeout=5, headers=forged)
    assert ERROR_HEADER not in (reply.headers or {})

    other = await instances.register()
    settings = instances.place.settings(InstanceSettings)
    runtime = await Runtime.open(Service.INSTANCE, settings)
    for info in (forged, {"ce-id": "m2"}):
        data = json.dumps(_body(other, "running")).encode()
        message = Msg(_client=orchestrator, subject=SUBJECT, data=data, headers=info)
        await receive_status(message, Instances(runtime, settings))
    await runtime.database.close()
    found = await instances.send(GetInstance(call=call(), principal=ADMIN, instance_id=other.id))
    assert found.status == "pending"


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"instance_id": 1, "status": "running"}'])
async def test_a_malformed_report_is_told(orchestrator: Client, body: bytes) -> None:
    error, _ = await _report(orchestrator, body, "m1")
    assert error == "invalid_request"


async def test_a_report_needs_an_id(instances: Dialogue, orchestrator: Client) -> None:
    guest = await instances.register()
    for message_id in (None, "x" * 256):
        error, _ = await _report(orchestrator, _body(guest, "running"), message_id)
        assert error == "invalid_request"


async def test_the_status_machine_holds_here_too(instances: Dialogue, orchestrator: Client) -> None:
    guest = await instances.register()
    error, _ = await _report(orchestrator, _body(guest, "stopped"), "m1")
    assert error == "invalid_transition"
    unknown = {"instance_id": "497f6eca-6276-4993-bfeb-53cbbbba6f08", "status": "running"}
    error, _ = await _report(orchestrator, unknown, "m2")
    assert error == "not_found"
