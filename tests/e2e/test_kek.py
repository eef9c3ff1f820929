"""A new key-encryption key for a platform at work."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.kek import KEK_COMMANDS
from shared.secrets import Sealer, key_ids
from tests.support.client import INSTANCES, Client, Workload, administrator, new_instance, running
from tests.support.eventually import eventually
from tests.support.platform import Platform, running_platform
from tests.support.public_rows import PublicRows

SECRETS = {"vpn": {"psk": "a secret of the test"}}
PROJECTS = ("shop", "blog")


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


@asynccontextmanager
async def public_rows(platform: Platform) -> AsyncIterator[PublicRows]:
    """Lend what inserts and reads rows of the acme service, by the keys that the platform has."""
    sealer = Sealer.from_text((platform.home / "secrets" / "kek").read_text())
    async with platform.superuser() as connection:
        await connection.execute("SET search_path = acme")
        async with connection.transaction():
            yield PublicRows(connection, sealer)


async def contents(platform: Platform) -> dict[str, list[str]]:
    """Return what is sealed in each column of the acme service."""
    async with public_rows(platform) as rows:
        return await rows.contents(
            Sealer.from_text((platform.home / "secrets" / "kek").read_text())
        )


async def test_rotation_under_load_and_through_crashes() -> None:
    """Services are killed in the middle, others write; afterwards everything opens, by one key."""
    with running_platform() as platform:
        kek = platform.home / "secrets" / "kek"
        (old,) = key_ids(kek.read_text())
        async with administrator(platform) as admin:
            workloads = [await running(admin, agent_secrets=SECRETS) for _ in range(20)]
            async with public_rows(platform) as rows:
                for name in PROJECTS:
                    await rows.everything(name)
            public = await contents(platform)
            assert all(len(values) == len(PROJECTS) for values in public.values())
            stop = asyncio.Event()

            async def write() -> None:
                while not stop.is_set():
                    body = new_instance(agent_secrets=SECRETS)
                    response = await admin.call("POST", INSTANCES, body, trouble=True)
                    assert response.status_code in {201, 503, 504}, response.text
                    await asyncio.sleep(0.02)

            async def kill() -> None:
                for service in ("instance", "issuer", "acme", "instance"):
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
            assert {row["service"] for row in rows} == set(map(str, KEK_COMMANDS))
            (acme,) = (row["values"] for row in rows if row["service"] == "acme")
            assert acme == sum(map(len, public.values()))
            assert await contents(platform) == public
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
