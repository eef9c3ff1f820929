"""The registry on a real bus."""

import json

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Credential, CredentialKind
from contracts.registry import LogIn, ResolveCredentials
from contracts.subjects import Service
from services.registry.app import application, build
from services.registry.settings import RegistrySettings
from shared.settings import Settings
from tests.support.registry import Tables, a_registry, initialised
from tests.support.running import bus, call, running
from tests.support.servers import Place, PostgresServer


async def test_what_the_gateway_asks_is_answered_and_failures_are_recorded(
    bus_place: Place, postgres: PostgresServer, database_url: str
) -> None:
    async with a_registry(bus_place) as local:
        first = await initialised(local)
    certificate = Credential(
        kind=CredentialKind.CERTIFICATE, sha256=first.admin.certificate.fingerprint
    )
    question = ResolveCredentials.Question(credential=certificate, request_id="r")
    async with (
        running(await build(bus_place.settings(RegistrySettings))),
        bus(bus_place.settings(Settings), Service.GATEWAY) as gateway,
    ):
        resolved = await gateway.request(
            ResolveCredentials(call=call(), questions=(question, question))
        )
        pair = await gateway.request(
            LogIn(call=call(), username=first.username, password=first.password)
        )
        with pytest.raises(CertwireError) as refused:
            await gateway.request(LogIn(call=call(), username="superuser", password="wrong"))
    assert [principal.kind for principal in resolved.principals if principal] == ["admin"] * 2
    assert len(pair.access_token) >= 43
    assert refused.value.code is ErrorCode.LOGIN_FAILED
    entries = await Tables(postgres, database_url).values(
        "SELECT entry FROM registry.outbox ORDER BY position DESC LIMIT 2"
    )
    failure, success = (json.loads(entry) for entry in entries)
    assert (success["action"], success["outcome"]) == ("login_success", "success")
    assert (failure["action"], failure["outcome"]) == ("login_failure", "refused")
    assert failure["object"]["id"] == "superuser"
    assert "wrong" not in json.dumps(failure)


async def test_warnings_say_what_an_operator_has_to_do(
    place: Place, postgres: PostgresServer, database_url: str
) -> None:
    tables = Tables(postgres, database_url)
    async with a_registry(place) as registry:
        warnings = application(registry).warnings
        assert warnings is not None
        assert [text.split("`")[1] for text in await warnings()] == [
            "certwire onboarding complete",
            "certwire admin reset",
        ]
        await initialised(registry)
        await tables.run("UPDATE registry.platform SET onboarding = 'COMPLETED'")
        assert await warnings() == []
        await tables.run(
            "UPDATE registry.admin_certificate SET not_after = now() + interval '30 days'"
        )
        assert await warnings() == ["the administrator's certificate ends in 30 days"]
        await tables.run("UPDATE registry.admin_certificate SET not_after = now()")
        assert "`certwire admin reset`" in (await warnings())[0]
