"""Commands to a service inside this process."""

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.registry import LogIn, ResolveCredentials, ResolvedCredentials
from services.cli.local_bus import LocalBus
from services.registry.app import application
from tests.support.registry import a_registry
from tests.support.running import call
from tests.support.servers import Place

NOBODY = {"kind": "bearer", "sha256": "0" * 64}


async def test_a_command_reaches_its_handler_and_errors_come_back(place: Place) -> None:
    async with a_registry(place) as registry:
        bus = LocalBus(application(registry))
        question = {"credential": NOBODY, "request_id": "r"}
        command = ResolveCredentials.model_validate({"call": call(), "questions": [question]})
        assert await bus.request(command) == ResolvedCredentials(principals=(None,))
        with pytest.raises(CertwireError) as refused:
            await bus.request(LogIn(call=call(), username="nobody", password="wrong"))
    assert refused.value.code is ErrorCode.LOGIN_FAILED
