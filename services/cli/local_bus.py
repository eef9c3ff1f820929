"""Commands to a service inside this process: what `certwire init` has in place of NATS."""

from typing import TypeVar

from contracts.messages import Command, Message
from shared.runtime import Application

ReplyT = TypeVar("ReplyT", bound=Message)


class LocalBus:
    """Hands commands to the handlers of one service, with its own settings and database role."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def request(self, command: Command[ReplyT]) -> ReplyT:
        """Return the handler's reply."""
        reply = await self._application.handlers[type(command)](command)
        assert isinstance(reply, command.REPLY)  # noqa: S101 - what the contract says
        return reply  # type: ignore[return-value]  # REPLY is the class of ReplyT
