"""Status changes that other systems report as events (see contracts.subjects)."""

import json
import logging
import time
from typing import Final

from nats.aio.msg import Msg
from pydantic import ValidationError

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import InboundInstanceStatus, Instance, SetInstanceStatus
from contracts.messages import Call
from contracts.principal import Principal, PrincipalKind
from contracts.subjects import REQUEST_INFO, comes_from_a_client, inbound_user
from services.instance.handlers.administration import move
from services.instance.service import Instances
from shared import inbox
from shared.broker import ERROR_HEADER
from shared.identifiers import uuid7

LOG: Final = logging.getLogger(__name__)
MESSAGE_ID_HEADER: Final = "ce-id"
MESSAGE_ID_LIMIT: Final = 255


async def receive_status(message: Msg, instances: Instances) -> None:
    """Take a reported status and reply after its commit; no reply means: send it again.

    NATS permissions fix the subject's user, which is who is recorded. A repeated `ce-id` gets the
    first answer.
    """
    user = inbound_user(message.subject)
    try:
        instance = await _apply(message, user, instances)
        payload, headers = instance.model_dump_json(), None
    except CertwireError as error:
        payload, headers = error.reply().model_dump_json(), {ERROR_HEADER: str(error.code)}
    except Exception:
        LOG.exception("an inbound status failed", extra={"user": user})
        return
    if message.reply:
        await instances.runtime.bus_broker.connection.publish(
            message.reply, payload.encode(), headers=headers
        )


async def _apply(message: Msg, user: str, instances: Instances) -> Instance:
    headers = message.headers or {}
    message_id = headers.get(MESSAGE_ID_HEADER, "")
    if not comes_from_a_client(headers.get(REQUEST_INFO)):
        raise CertwireError(ErrorCode.FORBIDDEN, "not sent by the subject's user")
    try:
        status = InboundInstanceStatus.model_validate_json(message.data)
    except ValidationError as error:
        detail = json.dumps(
            error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise CertwireError(ErrorCode.INVALID_REQUEST, detail) from None
    if not 0 < len(message_id) <= MESSAGE_ID_LIMIT:
        raise CertwireError(ErrorCode.INVALID_REQUEST, "the header ce-id is missing or too long")
    principal = Principal(kind=PrincipalKind.SUBSCRIBER, id=user, name=user)
    command = SetInstanceStatus(
        call=Call(request_id=str(uuid7()), deadline=time.time() + 10),
        principal=principal,
        instance_id=status.instance_id,
        status=status.status,
    )
    try:
        async with instances.runtime.unit_of_work(command) as work:
            earlier = await inbox.seen(work.connection, user, message_id)
            if earlier is not None:
                return Instance.model_validate_json(earlier)
            instance = await move(work, principal, status.instance_id, status.status)
            await inbox.keep(work.connection, user, message_id, instance.model_dump_json())
            return instance
    except CertwireError as error:
        await instances.runtime.record_refusal(command, error)
        raise
