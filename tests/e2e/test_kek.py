"""A new key-encryption key for a platform at work."""

import asyncio
import json

from shared.secrets import key_ids
from tests.support.client import INSTANCES, Client, Workload, administrator, new_instance, running
from tests.support.eventually import eventually
from tests.support.platform import Platform, running_platform

SECRETS = {"vpn": {"psk": "a secret of the test"}}


async def rotate(platform: Platform) -> str:
    """Rotate until it succeeds: services that were killed come back."""

    async def done() -> str:
        rotated = await platform.certwire("kek", "rotate")
        return rotated.out if rotated.code == 0 else ""

    return await eventually(done, "the rotation ends", seconds=60)


async def secrets_of(platform: Platform, workload: Workload) -> object:
    async with Client(platform, workload.identity) as itself:
        response = await itself.refresh(workload)
        assert response.status_code == 200, response.text
        return response.json()["agent_secrets"]


async def test_rotation_under_load_and_through_crashes() -> None:
    """Services are killed in the middle, others write; afterwards everything opens, by one key."""
    with running_platform() as platform:
        kek = platform.home / "secrets" / "kek"
        (old,) = key_ids(kek.read_text())
        async with administrator(platform) as admin:
            workloads = [await running(admin, agent_secrets=SECRETS) for _ in range(20)]
            stop = asyncio.Event()

            async def write() -> None:
                while not stop.is_set():
                    body = new_instance(agent_secrets=SECRETS)
                    response = await admin.call("POST", INSTANCES, body, trouble=True)
                    assert response.status_code in {201, 503, 504}, response.text
                    await asyncio.sleep(0.02)

            async def kill() -> None:
                for service in ("instance", "issuer", "instance"):
                    await asyncio.sleep(0.7)
                    platform.kill(service)

            writing = asyncio.create_task(write())
            killing = asyncio.create_task(kill())
            await rotate(platform)
            await killing
            await rotate(platform)
            assert len(key_ids(kek.read_text())) == 2
            out = await platform.succeed("kek", "retire")
            stop.set()
            await writing
            assert old in out
            (new,) = key_ids(kek.read_text())
            assert new != old
            rows = json.loads(await platform.succeed("kek", "status", "--json"))
            assert {row["key_id"] for row in rows} == {new}
            assert all(row["current"] for row in rows)
            for workload in workloads[:3]:
                assert await secrets_of(platform, workload) == SECRETS
            p12 = await admin.call("GET", "/api/certs/mtls/download")
            assert p12.status_code == 200
            actions = await platform.values(
                "SELECT DISTINCT action FROM audit.record WHERE action LIKE 'kek_%'"
            )
            assert {"kek_rotate", "kek_rewrap", "kek_retire"} >= set(actions)
        platform.stop()
        platform.start()  # with the new key alone
        assert await secrets_of(platform, workloads[5]) == SECRETS
