"""`Idempotency-Key`, over HTTPS: a request that is sent twice takes effect once."""

import asyncio
import secrets

import pytest

from tests.e2e.conversations import Refused
from tests.support.client import INSTANCES, Client, new_instance, registered, running, superuser
from tests.support.csr import csr_pem, new_key
from tests.support.platform import Platform

TOOK_EFFECT = Refused(
    409,
    "The first request with this Idempotency-Key took effect; its answer held a secret and was"
    " not kept",
)
REUSED = Refused(409, "Idempotency-Key was used for another request")


def key() -> dict[str, str]:
    """Return the header with a new key."""
    return {"Idempotency-Key": secrets.token_hex(8)}


async def named(platform: Platform, name: str) -> int:
    """Count the instances of a name."""
    count: int = await platform.value(
        "SELECT count(*) FROM instance.instance WHERE name = $1", name
    )
    return count


async def test_a_repeated_registration_is_told_that_it_took_effect(
    platform: Platform, admin: Client
) -> None:
    body, header = new_instance(name=f"once-{secrets.token_hex(4)}"), key()
    assert (await admin.call("POST", INSTANCES, body, headers=header)).status_code == 201
    assert await admin.call("POST", INSTANCES, body, headers=header) == TOOK_EFFECT
    changed = {**body, "vpn_ip": "10.9.9.9"}
    assert await admin.call("POST", INSTANCES, changed, headers=header) == REUSED
    assert await named(platform, str(body["name"])) == 1


async def test_of_many_at_once_one_takes_effect(platform: Platform, admin: Client) -> None:
    body, header = new_instance(name=f"once-{secrets.token_hex(4)}"), key()
    answers = await asyncio.gather(
        *(admin.call("POST", INSTANCES, body, headers=header) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert all(answer == TOOK_EFFECT for answer in answers if answer.status_code == 409)
    assert await named(platform, str(body["name"])) == 1


async def test_a_repeated_change_of_status_gets_the_first_answer(admin: Client) -> None:
    instance_id, header = (await registered(admin)).id, key()
    first = await admin.move(instance_id, "running", headers=header)
    assert (await admin.move(instance_id, "stopped")).status_code == 200
    again = await admin.move(instance_id, "running", headers=header)
    assert (again.status_code, again.content) == (200, first.content)
    assert (await admin.get(instance_id)).json()["status"] == "stopped"
    assert await admin.move(instance_id, "terminated", headers=header) == REUSED
    assert (await admin.get(instance_id)).json()["status"] == "stopped"


async def test_only_successes_are_kept(admin: Client) -> None:
    instance_id, header = (await registered(admin)).id, key()
    assert (await admin.move(instance_id, "stopped", headers=header)).status_code == 409
    await admin.move(instance_id, "running")
    assert (await admin.move(instance_id, "stopped", headers=header)).status_code == 200


async def test_a_key_belongs_to_its_credential(platform: Platform, admin: Client) -> None:
    instance_id, header = (await registered(admin)).id, key()
    await admin.move(instance_id, "running", headers=header)
    async with superuser(platform, address="127.0.201.1") as root:
        moved = await root.move(instance_id, "stopped", headers=header)
    assert moved.json()["status"] == "stopped"


async def test_a_repeated_revocation_gets_the_first_answer(admin: Client) -> None:
    workload, header = await running(admin), key()
    path = f"{workload.path}/cert/revoke"
    first = await admin.call("POST", path, {"reason": "moved"}, headers=header)
    again = await admin.call("POST", path, {"reason": "moved"}, headers=header)
    assert (again.status_code, again.content) == (200, first.content)


async def test_a_repeated_renewal_gets_the_same_certificate(
    platform: Platform, admin: Client
) -> None:
    workload, header = await running(admin), key()
    body = workload.renewal_body()
    async with Client(platform, workload.identity) as itself:
        first, again = [
            await itself.call("POST", f"{workload.path}/cert/renew", body, headers=header)
            for _ in range(2)
        ]
        other = {**body, "csr_pem": csr_pem(new_key())}
        reused = await itself.call("POST", f"{workload.path}/cert/renew", other, headers=header)
    assert (again.status_code, again.content) == (200, first.content)
    assert reused.status_code in {401, 409}
    assert len(await admin.certificates(workload.id)) == 2


async def test_a_repeated_bootstrap_gets_the_same_certificate(
    admin: Client, nobody: Client
) -> None:
    workload, header = await registered(admin), key()
    body = workload.bootstrap_body()
    path = f"{workload.path}/cert/bootstrap"
    answers = await asyncio.gather(
        *(nobody.call("POST", path, body, headers=header) for _ in range(4))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    other = {**body, "csr_pem": csr_pem(new_key())}
    assert await nobody.call("POST", path, other, headers=header) == REUSED
    assert len(await admin.certificates(workload.id)) == 1


@pytest.mark.parametrize("value", ["", "x" * 256, "two words", "käse".encode("latin-1")])
async def test_a_key_that_cannot_be_kept_is_refused(admin: Client, value: str | bytes) -> None:
    instance_id = (await registered(admin)).id
    refused = await admin.move(instance_id, "running", headers={"Idempotency-Key": value})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
