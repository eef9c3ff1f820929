"""Renewals over HTTPS: every check at its place, one certificate an hour, and no lost replies."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from tests.e2e.conversations import Refused, detail, retry_after
from tests.support.authority import Authority
from tests.support.client import (
    TRANSPORT_ERRORS,
    Client,
    Workload,
    bootstrapped,
    connection_of,
    fingerprint_of,
    new_wg_key,
    registered,
    running,
    tls_context,
)
from tests.support.csr import csr_pem, new_key
from tests.support.eventually import eventually
from tests.support.platform import OWN_ROW, Platform

AT_ONCE = 200
NOT_THEM = Refused(401, "Invalid mTLS cert or identity verification failed")
NOT_FOUND = Refused(404, "Instance not found")
NOT_RUNNING = Refused(409, "Instance not running")
INVALID_CSR = Refused(400, "Invalid CSR")
LIMITED = Refused(429, "Rate limit exceeded (1 renewal per hour)")
NO_CSR = "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 100
UNKNOWN_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"


async def test_a_renewal_answers_certificate_serial_and_expiry(
    platform: Platform, admin: Client
) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        response = await itself.renew(workload)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    reply = response.json()
    assert reply.keys() == {"cert_pem", "cert_serial", "expires_at"}
    newest, oldest = await admin.certificates(workload.id)
    assert newest["serial"] == reply["cert_serial"]
    assert newest["expires_at"] == reply["expires_at"]
    assert newest["fingerprint"] == fingerprint_of(reply["cert_pem"])
    assert newest["revoked_at"] is None
    assert newest["revocation_reason"] is None
    assert oldest["fingerprint"] == workload.sha256
    assert oldest["revoked_at"] is not None
    assert oldest["revocation_reason"] == "superseded"


async def test_of_many_faults_the_first_in_order_is_told(
    platform: Platform, admin: Client, nobody: Client
) -> None:
    """The caller mends one fault after the other; the instance is stopped and has just renewed."""
    other, workload = await running(admin), await running(admin)
    async with Client(platform, workload.identity) as itself:
        workload.takes(await itself.renew(workload))
    await admin.move(workload.id, "stopped")
    somewhere = Workload(UNKNOWN_ID, new_wg_key(), "10.0.0.1", "")
    wrong_key: dict[str, Any] = {"wg_public_key": new_wg_key(), "csr_pem": NO_CSR}

    response = await nobody.renew(somewhere, wg_public_key=None, csr_pem=NO_CSR)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["detail"]] == [["body", "wg_public_key"]]
    assert await nobody.renew(somewhere, **wrong_key) == NOT_THEM
    async with Client(platform, other.identity) as another:
        assert await another.renew(somewhere, **wrong_key) == NOT_FOUND
        assert await another.renew(workload, **wrong_key) == NOT_THEM
    async with Client(platform, workload.identity) as itself:
        assert await itself.renew(workload, **wrong_key) == NOT_THEM
        assert await itself.renew(workload, csr_pem=NO_CSR) == NOT_RUNNING
        await admin.move(workload.id, "running")
        assert await itself.renew(workload, csr_pem=NO_CSR) == INVALID_CSR
        assert (limited := await itself.renew(workload)) == LIMITED
    assert 0 < retry_after(limited) <= 3600
    assert len(await admin.certificates(workload.id)) == 2


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({"wg_public_key": "x"}, ["body", "csr_pem"]),
        ({"csr_pem": "x" * 99, "wg_public_key": "x"}, ["body", "csr_pem"]),
        ({"csr_pem": "x" * 10_001, "wg_public_key": "x"}, ["body", "csr_pem"]),
        ({"csr_pem": "x" * 100}, ["body", "wg_public_key"]),
        ({"csr_pem": "x" * 100, "wg_public_key": 1}, ["body", "wg_public_key"]),
        ([], ["body"]),
        (None, ["body"]),
    ],
)
async def test_the_body_is_judged_before_anything_is_looked_up(
    nobody: Client, body: object, location: list[str]
) -> None:
    response = await nobody.call("POST", f"/internal/v1/instances/{UNKNOWN_ID}/cert/renew", body)
    assert response.status_code == 422
    (error,) = response.json()["detail"]
    assert error.keys() == {"loc", "msg", "type"}
    assert error["loc"] == location


async def test_so_is_the_path(nobody: Client) -> None:
    body = {"csr_pem": "x" * 100, "wg_public_key": "x"}
    response = await nobody.call("POST", "/internal/v1/instances/web-1/cert/renew", body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["path", "instance_id"]


async def test_the_administrator_is_no_instance(admin: Client) -> None:
    workload = await running(admin)
    assert await admin.renew(workload) == NOT_THEM
    assert await admin.refresh(workload) == NOT_THEM


async def test_a_pending_instance_does_not_renew(platform: Platform, admin: Client) -> None:
    workload = await bootstrapped(admin)
    async with Client(platform, workload.identity) as itself:
        assert await itself.renew(workload) == NOT_RUNNING


async def test_an_invalid_csr_costs_nothing(platform: Platform, admin: Client) -> None:
    workload = await running(admin)
    signed = csr_pem(workload.key)
    tampered = signed.replace(signed[400:404], "AAAA" if signed[400:404] != "AAAA" else "BBBB")
    async with Client(platform, workload.identity) as itself:
        for csr in (tampered, signed + signed, f"x{signed}"):
            assert await itself.renew(workload, csr_pem=csr) == INVALID_CSR
        workload.takes(await itself.renew(workload))


@pytest.mark.timeout(60)
async def test_of_two_hundred_at_once_one_makes_a_certificate(
    platform: Platform, admin: Client
) -> None:
    """Half of them ask for the same key, so they may get the same bytes; the others never do."""
    workload = await running(admin)
    same, others = csr_pem(workload.key), [csr_pem(new_key()) for _ in range(AT_ONCE // 2)]
    async with (
        Client(platform, workload.identity) as itself,
        asyncio.TaskGroup() as group,
        platform.locked(OWN_ROW, workload.id),  # nobody is first
    ):
        calls = [
            group.create_task(itself.renew(workload, csr_pem=csr))
            for csr in [same] * (AT_ONCE // 2) + others
        ]
        await platform.until_waiting("instance", statements=2)
    responses = [call.result() for call in calls]
    assert {response.status_code for response in responses} <= {200, 401, 429}
    given = Counter(response.text for response in responses if response.status_code == 200)
    assert len(given) == 1, given
    newest, _bootstrapped = await admin.certificates(workload.id)
    (answer,) = given
    assert newest["fingerprint"] == fingerprint_of(json.loads(answer)["cert_pem"])
    signed = await platform.values(
        "SELECT fingerprint FROM issuer.certificate WHERE owner_id = $1 AND renews IS NOT NULL",
        workload.id,
    )
    assert signed == [newest["fingerprint"]]


async def test_a_lost_reply_is_fetched_again_for_the_same_key_alone(
    platform: Platform, admin: Client
) -> None:
    workload = await running(admin)
    await _send_and_hang_up(platform, workload)

    async def renewed() -> bool:
        return len(await admin.certificates(workload.id)) == 2

    await eventually(renewed, "the renewal whose caller hung up")
    newest = (await admin.certificates(workload.id))[0]
    async with Client(platform, workload.identity) as itself:
        assert await itself.renew(workload, csr_pem=csr_pem(new_key())) == NOT_THEM
        assert await itself.refresh(workload) == NOT_THEM
        first, second = await itself.renew(workload), await itself.renew(workload)
    assert first.content == second.content
    workload.takes(first)
    assert workload.sha256 == newest["fingerprint"]
    assert len(await admin.certificates(workload.id)) == 2
    async with Client(platform, workload.identity) as itself:
        assert (await itself.refresh(workload)).status_code == 200
        assert await itself.renew(workload) == LIMITED


async def _send_and_hang_up(platform: Platform, workload: Workload) -> None:
    body = json.dumps(workload.renewal_body()).encode()
    _, writer = await asyncio.open_connection(
        "localhost", platform.https_port, ssl=tls_context(platform.ca_file, workload.identity)
    )
    head = f"POST {workload.path}/cert/renew HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    writer.transport.abort()


async def test_a_certificate_revoked_mid_connection_is_refused_on_the_next_request(
    platform: Platform, admin: Client
) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity, connections=1) as itself:
        before = await itself.refresh(workload)
        assert before.status_code == 200
        revoked = await admin.revoke(workload.id, {"reason": "the key leaked"})
        assert revoked.status_code == 200
        for ask in (itself.refresh, itself.renew):
            after = await ask(workload)
            assert after == NOT_THEM
            assert connection_of(after) == connection_of(before)
    (row,) = await admin.certificates(workload.id)
    assert revoked.json() == {"serial": row["serial"], "revoked_at": row["revoked_at"]}


async def test_a_terminated_instance_is_nobody(platform: Platform, admin: Client) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        assert (await itself.refresh(workload)).status_code == 200
        assert (await admin.move(workload.id, "terminated")).status_code == 200
        assert await itself.renew(workload) == NOT_THEM
        assert await itself.refresh(workload) == NOT_THEM
    (row,) = await admin.certificates(workload.id)
    assert row["revocation_reason"] == "cessation_of_operation"


async def test_a_stopped_instance_goes_on_with_its_certificate(
    platform: Platform, admin: Client
) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        await admin.move(workload.id, "stopped")
        assert await itself.renew(workload) == NOT_RUNNING
        assert await itself.refresh(workload) == NOT_RUNNING
        await admin.move(workload.id, "running")
        assert (await itself.renew(workload)).status_code == 200


async def test_tries_with_an_invalid_csr_are_limited_too(platform: Platform, admin: Client) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        failed = [await itself.renew(workload, csr_pem=NO_CSR) for _ in range(60)]
        assert all(response == INVALID_CSR for response in failed)
        limited = await itself.renew(workload)
    assert limited.status_code == 429
    assert 0 < retry_after(limited) <= 3600


# --- Secrets ------------------------------------------------------------------------------------


async def test_secrets_are_what_the_administrator_put_last(
    platform: Platform, admin: Client
) -> None:
    workload = await running(admin, agent_secrets={"api_key": "one", "deep": [{"er": None}]})
    async with Client(platform, workload.identity) as itself:
        first = await itself.refresh(workload)
        assert first.json() == {"agent_secrets": {"api_key": "one", "deep": [{"er": None}]}}
        put = await admin.put_secrets(workload.id, {"api_key": "two"})
        assert (put.status_code, put.content) == (204, b"")
        assert (await itself.refresh(workload)).json() == {"agent_secrets": {"api_key": "two"}}


async def test_secrets_go_to_the_registered_address_and_key_alone(
    platform: Platform, admin: Client, nobody: Client
) -> None:
    workload = await running(admin, vpn_ip="10.4.5.6")
    async with Client(platform, workload.identity) as itself:
        assert await itself.refresh(workload, vpn_ip="10.4.5.7") == NOT_THEM
        assert await itself.refresh(workload, wg_public_key=new_wg_key()) == NOT_THEM
        for vpn_ip in (
            "10.999.1.1",
            "11.4.5.6",
            "10.4.5",
            "10.4.5.06",
            "10.4.5.\u0666",
            "10.4.5.6\n",
        ):
            assert (await itself.refresh(workload, vpn_ip=vpn_ip)).status_code == 422, vpn_ip
        await admin.move(workload.id, "stopped")
        assert await itself.refresh(workload, vpn_ip="10.4.5.7") == NOT_THEM
        assert await itself.refresh(workload) == NOT_RUNNING
        assert await itself.refresh(Workload(UNKNOWN_ID, "", "10.1.1.1", "")) == NOT_FOUND
    assert await nobody.refresh(workload) == NOT_THEM


async def test_secrets_are_fetched_sixty_times_an_hour(platform: Platform, admin: Client) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        for _ in range(60):
            assert (await itself.refresh(workload)).status_code == 200
        limited = await itself.refresh(workload)
    assert limited.status_code == 429
    assert detail(limited) == "Rate limit exceeded"
    assert 0 < retry_after(limited) <= 3600


# --- Whose certificate --------------------------------------------------------------------------


async def test_a_certificate_of_another_ca_is_nobodys(platform: Platform, admin: Client) -> None:
    """It names the instance, and a CA of the same name signed it: it dies in the handshake."""
    workload = await registered(admin)
    stranger = Authority("Certwire").client(f"instance:{workload.id}")
    with pytest.raises(TRANSPORT_ERRORS):
        async with Client(platform, stranger.pem) as forger:
            await forger.renew(workload)
