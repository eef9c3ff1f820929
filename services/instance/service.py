"""What the handlers of the instance service work with."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from contracts.messages import Command
from services.instance.settings import InstanceSettings
from services.instance.store import renewals
from services.instance.store.renewals import Answered, Attempt, Signed
from shared.group_commit import GroupCommit
from shared.runtime import Runtime

Request = Callable[[Command[Any]], Awaitable[Any]]


class Instances:
    """The dependencies of every handler, made once by `app.build`."""

    def __init__(self, runtime: Runtime, settings: InstanceSettings) -> None:
        self.runtime: Final = runtime
        self.settings: Final = settings
        self.sealer: Final = settings.sealer
        self.claims: Final[GroupCommit[Attempt, Answered]] = GroupCommit(
            "instance.claim", runtime.database, renewals.claim
        )
        self.records: Final[GroupCommit[Signed, bool]] = GroupCommit(
            "instance.record", runtime.database, renewals.record
        )
