"""What administrators do with instances, and what their secrets are worth."""

import json

import pytest

from contracts.certificates import SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.instance import (
    CreateInstance,
    GetInstance,
    InstanceStatus,
    ListInstanceCertificates,
    ListInstances,
    PutSecrets,
    ResolveInstance,
)
from contracts.principal import Principal, PrincipalKind, Role
from tests.contract.instance.dialogue import ADMIN, Dialogue, credential, keyed, new_wg_key
from tests.support.running import call

AGENT = Principal(kind=PrincipalKind.AGENT, id="1", name="mac")


async def _code(awaitable: object) -> ErrorCode:
    with pytest.raises(CertwireError) as refused:
        await awaitable  # type: ignore[misc]  # any coroutine
    return refused.value.code


async def test_lists_page_by_page(instances: Dialogue) -> None:
    known = [(await instances.register(name=f"n{n}")).id for n in range(5)]
    seen, cursor = [], None
    while True:
        page = await instances.send(
            ListInstances(call=call(), principal=ADMIN, limit=2, cursor=cursor)
        )
        seen += [instance.id for instance in page.instances]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == known
    forged = ListInstances(call=call(), principal=ADMIN, limit=2, cursor="nonsense")
    assert await _code(instances.send(forged)) is ErrorCode.INVALID_REQUEST


async def test_the_inventory_is_paged_too(instances: Dialogue) -> None:
    guest = await instances.running()
    await instances.renew(guest)
    first = await instances.send(
        ListInstanceCertificates(call=call(), principal=ADMIN, instance_id=guest.id, limit=1)
    )
    rest = await instances.send(
        ListInstanceCertificates(
            call=call(), principal=ADMIN, instance_id=guest.id, limit=1, cursor=first.next_cursor
        )
    )
    assert [len(first.certificates), len(rest.certificates)] == [1, 1]
    assert rest.next_cursor is None


async def test_only_administrators_may(instances: Dialogue) -> None:
    guest = await instances.register()
    user = Principal(kind=PrincipalKind.USER, id="7", name="u", role=Role.ADMIN)
    for principal in (AGENT, user):
        for command in (
            GetInstance(call=call(), principal=principal, instance_id=guest.id),
            ListInstances(call=call(), principal=principal, limit=1),
            PutSecrets(call=call(), principal=principal, instance_id=guest.id, agent_secrets={}),
        ):
            assert await _code(instances.send(command)) is ErrorCode.FORBIDDEN
    refusals = await instances.count(
        "SELECT count(*) FROM outbox WHERE entry::jsonb ->> 'outcome' = 'refused'"
    )
    assert refusals == 6


async def test_a_repeated_create_says_that_the_first_took_effect(instances: Dialogue) -> None:
    await instances.register(call=keyed("k"))
    repeated = instances.register(call=keyed("k"))
    assert await _code(repeated) is ErrorCode.IDEMPOTENCY_SECRET_SHOWN
    assert await instances.count("SELECT count(*) FROM instance") == 1


async def test_a_bad_wireguard_key_is_refused(instances: Dialogue) -> None:
    command = CreateInstance(
        call=call(), principal=ADMIN, name="x", wg_public_key="string", vpn_ip="10.0.0.1"
    )
    assert await _code(instances.send(command)) is ErrorCode.INVALID_REQUEST


async def test_a_certificate_is_its_instances_while_it_is_the_current_one(
    instances: Dialogue,
) -> None:
    async def owner(certificate: SignedCertificate) -> str | None:
        command = ResolveInstance(call=call(), credential=credential(certificate))
        found = (await instances.send(command)).principal
        return found and str(found.id)

    guest = await instances.running()
    assert guest.certificate
    assert await owner(guest.certificate) == str(guest.id)
    renewed = await instances.renew(guest)
    assert await owner(guest.certificate) is None
    assert await owner(renewed) == str(guest.id)
    await instances.move(guest, InstanceStatus.STOPPED)
    assert await owner(renewed) == str(guest.id)
    await instances.move(guest, InstanceStatus.TERMINATED)
    assert await owner(renewed) is None


async def test_secrets_are_for_their_instance(instances: Dialogue) -> None:
    guest = await instances.running()
    assert await instances.refresh(guest) == {"api_key": "s3cret"}
    await instances.send(
        PutSecrets(
            call=call(), principal=ADMIN, instance_id=guest.id, agent_secrets={"n": [1, None]}
        )
    )
    assert await instances.refresh(guest) == {"n": [1, None]}
    for fields in ({"vpn_ip": "10.1.2.4"}, {"wg_public_key": new_wg_key()}):
        assert await _code(instances.refresh(guest, **fields)) is ErrorCode.IDENTITY_MISMATCH
    await instances.move(guest, InstanceStatus.STOPPED)
    assert await _code(instances.refresh(guest)) is ErrorCode.INSTANCE_NOT_RUNNING


async def test_secrets_have_a_limit_of_their_own(instances: Dialogue) -> None:
    guest = await instances.running()
    for _ in range(60):
        await instances.refresh(guest)
    assert await _code(instances.refresh(guest)) is ErrorCode.RATE_LIMITED
    await instances.let_time_pass(guest, "1 hour")
    await instances.refresh(guest)


async def test_no_secret_is_written_in_the_clear(instances: Dialogue) -> None:
    guest = await instances.running()
    await instances.refresh(guest)
    async with instances.database.connection() as connection:
        for table in ("instance", "outbox", "bootstrap_token", "claim", "idempotency"):
            rows = await connection.fetch(f"SELECT row_to_json(t)::text AS row FROM {table} t")  # noqa: S608 - a fixed name
            text = json.dumps([row["row"] for row in rows])
            assert "s3cret" not in text
            assert guest.token not in text
