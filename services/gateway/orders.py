"""Waiting for an order of a public certificate: it goes on whether anybody waits or not."""

import asyncio
import time
from typing import Final

from contracts.acme import GetOrder, Order, OrderState
from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Principal
from services.gateway.exchange import Exchange

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 1.0
GROWTH: Final = 1.5
ANSWER_SECONDS: Final = 5.0
"""A question that nobody has answered by then is asked again: who heard it may be gone."""
PASSING: Final = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN, ErrorCode.OVERLOADED})


async def outcome(exchange: Exchange, actor: Principal, order: Order) -> Order:
    """Return the order once it is valid, or once there is no more time and it has a certificate.

    Then that is being delivered. Raises what it failed for, and `OUTCOME_UNKNOWN` where there is
    no certificate in time. The acme service may go and come back meanwhile, as its replicas do.
    """
    exchange.wait_for_the_ca()
    pause = FIRST_PAUSE_SECONDS
    while order.state is OrderState.PENDING:
        left = exchange.deadline - time.time()
        if left <= 0:
            if order.certificate is not None:
                return order
            raise CertwireError(ErrorCode.OUTCOME_UNKNOWN)
        await asyncio.sleep(min(pause, left))
        pause = min(pause * GROWTH, LONGEST_PAUSE_SECONDS)
        order = await _as_it_is(exchange, actor, order)
    if order.error is not None:
        raise CertwireError.from_reply(order.error)
    return order


async def _as_it_is(exchange: Exchange, actor: Principal, order: Order) -> Order:
    """Return how the order is now, or was when anybody last said."""
    deadline = min(exchange.deadline, time.time() + ANSWER_SECONDS)
    call = exchange.call().model_copy(update={"deadline": deadline})
    try:
        return await exchange.request(GetOrder(call=call, actor=actor, order_id=order.id))
    except CertwireError as error:
        if error.code in PASSING:
            return order
        raise
