"""A service of two commands on the real runtime, in this process or in one of its own."""

import asyncio
from typing import ClassVar

from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.instance import CreateInstance, ListInstances
from contracts.messages import Command, Message
from contracts.principal import Principal
from contracts.subjects import Service
from shared.runtime import Application, Runtime, run
from shared.settings import Settings


class Kept(Message):
    name: str


class Keep(Command[Kept]):
    """Keep a name, after a while; on the subject of another, as permissions are by contract."""

    SUBJECT: ClassVar[str] = CreateInstance.SUBJECT
    ACTION: ClassVar[str | None] = "name_keep"
    REPLY: ClassVar[type[Message]] = Kept

    principal: Principal
    name: str
    seconds: float = 0


class Count(Command[Kept]):
    """Say how many names are kept."""

    SUBJECT: ClassVar[str] = ListInstances.SUBJECT
    REPLY: ClassVar[type[Message]] = Kept


class Sample:
    """The handlers."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def keep(self, command: Keep) -> Kept:
        """Refuse the name `forbidden`, stumble over `crash`, keep any other."""
        if command.name == "forbidden":
            raise CertwireError(ErrorCode.FORBIDDEN, actor=command.principal)
        if command.name == "unheard":
            raise CertwireError(ErrorCode.UNAVAILABLE)
        async with self.runtime.unit_of_work(command) as work:
            if command.name == "crash":
                raise LookupError(command.name)
            await asyncio.sleep(command.seconds)
            work.record(
                command.principal,
                "name_keep",
                AuditObject(type="name", id=command.name, name=command.name),
            )
            return await work.answer(Kept(name=command.name))

    async def count(self, _command: Count) -> Kept:
        """Count what was recorded as kept."""
        async with self.runtime.database.connection() as connection:
            count = await connection.fetchval(
                "SELECT count(*) FROM outbox WHERE entry::json->>'outcome' = 'success'"
            )
        return Kept(name=f"{count}")


async def build(settings: Settings) -> Application:
    """Return the service."""
    runtime = await Runtime.open(Service.INSTANCE, settings)
    sample = Sample(runtime)
    return Application(runtime, {Keep: sample.keep, Count: sample.count}, direct=frozenset({Count}))


if __name__ == "__main__":
    from tests.support import sample_service  # the module by its own name, not as the script

    settings = Settings()
    run(lambda: sample_service.build(settings), Service.INSTANCE, settings)
