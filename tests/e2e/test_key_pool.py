"""CAs and certificates whose RSA keys the platform makes: quick, for they were made before."""

import time

from tests.support.client import Client, superuser
from tests.support.eventually import eventually
from tests.support.platform import Platform, running_platform

CAS, CERTIFICATES = 4, 20
POOL = {
    "CERTWIRE_ISSUER_KEY_POOL_RSA2048": str(CERTIFICATES),
    "CERTWIRE_ISSUER_KEY_POOL_RSA4096": str(CAS),
}
LONGEST_SECONDS = 3.0


async def until_full(platform: Platform) -> None:
    async def is_full() -> bool:
        keys: int = await platform.value("SELECT count(*) FROM issuer.key_pool")
        return keys >= CAS + CERTIFICATES

    await eventually(is_full, "the pool is full", seconds=90)


async def created(caller: Client, path: str, body: dict[str, object]) -> tuple[int, float]:
    """Create something; return its id, and how long it took."""
    began = time.perf_counter()
    response = await caller.call("POST", path, body)
    assert response.status_code == 201, response.text
    return response.json()["id"], time.perf_counter() - began


def shown(what: str, took: list[float]) -> None:
    took.sort()
    text = f"{what}: median {took[len(took) // 2] * 1000:.0f} ms, longest {took[-1] * 1000:.0f} ms"
    print(f"\n{text}, of {len(took)}")  # noqa: T201 - what `-s` is for


async def test_creating_with_the_usual_sizes_is_quick() -> None:
    """`-s` prints how quick. The keys are made with what the processor has to spare."""
    with running_platform(**POOL) as platform:
        await until_full(platform)
        async with superuser(platform) as caller:
            cas = [
                await created(
                    caller, "/api/v1/cas/", {"name": f"CA {n}", "subject_dn": f"CN=CA {n}"}
                )
                for n in range(CAS)
            ]
            path = f"/api/v1/certificates/?ca_id={cas[0][0]}"
            certificates = [
                await created(
                    caller,
                    path,
                    {
                        "common_name": f"s{n}.example.com",
                        "subject_dn": f"CN=s{n}.example.com",
                        "certificate_type": "server",
                    },
                )
                for n in range(CERTIFICATES)
            ]
    for what, made in (("CA, RSA-4096", cas), ("certificate, RSA-2048", certificates)):
        took = [seconds for _, seconds in made]
        shown(what, took)
        assert took[-1] < LONGEST_SECONDS
