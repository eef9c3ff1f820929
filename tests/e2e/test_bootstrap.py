"""The first certificate, over HTTPS: a token that counts once."""

import asyncio
from datetime import UTC, datetime

import pytest

from tests.e2e.conversations import Refused, retry_after
from tests.support.client import (
    Client,
    Workload,
    bootstrapped,
    fingerprint_of,
    new_wg_key,
    registered,
    running,
)
from tests.support.csr import csr_pem, new_key
from tests.support.platform import OWN_ROW, Platform

AT_ONCE = 50
NOT_THEM = Refused(401, "Invalid mTLS cert or identity verification failed")
NOT_RUNNING = Refused(409, "Instance not running")
INVALID_CSR = Refused(400, "Invalid CSR")
NO_CSR = "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 100


async def test_a_token_is_exchanged_once(admin: Client, nobody: Client) -> None:
    workload = await registered(admin)
    response = await nobody.bootstrap(workload)
    assert response.status_code == 200
    reply = response.json()
    assert reply.keys() == {"cert_pem", "cert_serial", "expires_at"}
    (row,) = await admin.certificates(workload.id)
    assert row["fingerprint"] == fingerprint_of(reply["cert_pem"])
    assert (row["serial"], row["expires_at"]) == (reply["cert_serial"], reply["expires_at"])
    assert await nobody.bootstrap(workload) == NOT_THEM


async def test_of_fifty_at_once_one_gets_the_certificate(
    platform: Platform, admin: Client, nobody: Client
) -> None:
    workload = await registered(admin)
    csrs = [csr_pem(new_key()) for _ in range(AT_ONCE)]
    async with asyncio.TaskGroup() as group, platform.locked(OWN_ROW, workload.id):
        calls = [group.create_task(nobody.bootstrap(workload, csr_pem=csr)) for csr in csrs]
        await platform.until_waiting("instance", statements=5)  # nobody is first
    responses = [call.result() for call in calls]
    given = [response for response in responses if response.status_code == 200]
    assert len(given) == 1
    assert all(response == NOT_THEM for response in responses if response not in given)
    (row,) = await admin.certificates(workload.id)
    assert row["fingerprint"] == fingerprint_of(given[0].json()["cert_pem"])
    signed = await platform.values(
        "SELECT fingerprint FROM issuer.certificate WHERE owner_id = $1", workload.id
    )
    assert signed == [row["fingerprint"]]


async def test_what_fails_costs_nothing(admin: Client, nobody: Client) -> None:
    workload, other = await registered(admin), await registered(admin)
    assert await nobody.bootstrap(workload, csr_pem=NO_CSR) == INVALID_CSR
    assert await nobody.bootstrap(workload, wg_public_key=new_wg_key()) == NOT_THEM
    assert await nobody.bootstrap(workload, token=other.token) == NOT_THEM
    assert await nobody.bootstrap(workload, token="made up") == NOT_THEM
    assert (await nobody.bootstrap(workload, token="nul\0")).status_code in {401, 422}
    assert (await nobody.bootstrap(workload, token="")).status_code == 422
    assert (await nobody.bootstrap(workload, token=None)).status_code == 422
    assert (await nobody.bootstrap(workload)).status_code == 200


async def test_a_newer_token_makes_the_older_worthless(admin: Client, nobody: Client) -> None:
    workload = await registered(admin)
    made = await admin.new_token(workload.id)
    assert made.status_code == 201
    assert made.json().keys() == {"bootstrap_token", "bootstrap_expires_at"}
    lifetime = datetime.fromisoformat(made.json()["bootstrap_expires_at"]) - datetime.now(UTC)
    assert 880 < lifetime.total_seconds() <= 900
    assert await nobody.bootstrap(workload) == NOT_THEM
    assert (await nobody.bootstrap(workload, token=made.json()["bootstrap_token"])).is_success


async def test_a_second_bootstrap_revokes_the_first_certificate_and_spares_the_hour(
    platform: Platform, admin: Client, nobody: Client
) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        workload.token = (await admin.new_token(workload.id)).json()["bootstrap_token"]
        second = await nobody.bootstrap(workload)
        assert second.status_code == 200
        # Not superseded by a renewal: the same key does not fetch the new one.
        assert await itself.renew(workload) == NOT_THEM
        assert await itself.refresh(workload) == NOT_THEM
    workload.takes(second)
    async with Client(platform, workload.identity) as itself:
        assert (await itself.renew(workload)).status_code == 200


@pytest.mark.parametrize("status", ["stopped", "terminated"])
async def test_only_a_pending_or_running_instance_bootstraps(
    admin: Client, nobody: Client, status: str
) -> None:
    workload = await running(admin)
    workload.token = (await admin.new_token(workload.id)).json()["bootstrap_token"]
    await admin.move(workload.id, status)
    # A terminated instance's tokens are spent: it has none to be told about.
    expected = NOT_RUNNING if status == "stopped" else NOT_THEM
    assert await nobody.bootstrap(workload) == expected


async def test_an_unknown_instance_is_not_told_from_a_wrong_token(nobody: Client) -> None:
    somewhere = Workload(
        "497f6eca-6276-4993-bfeb-53cbbbba6f08", new_wg_key(), "10.0.0.1", new_wg_key()
    )
    assert await nobody.bootstrap(somewhere) == NOT_THEM


async def test_wrong_tokens_of_one_address_are_limited(
    platform: Platform, admin: Client, nobody: Client
) -> None:
    workload = await registered(admin)
    wrong = await asyncio.gather(*(nobody.bootstrap(workload, token="x") for _ in range(120)))
    assert all(response == NOT_THEM for response in wrong)
    limited = await nobody.bootstrap(workload)
    assert limited.status_code == 429
    assert 0 < retry_after(limited) <= 60
    async with Client(platform, address="127.0.200.1") as elsewhere:
        assert (await elsewhere.bootstrap(workload)).status_code == 200


async def test_a_bootstrapped_instance_may_call_once_it_runs(
    platform: Platform, admin: Client
) -> None:
    workload = await bootstrapped(admin)
    async with Client(platform, workload.identity) as itself:
        assert await itself.refresh(workload) == NOT_RUNNING
        await admin.move(workload.id, "running")
        assert (await itself.refresh(workload)).status_code == 200
