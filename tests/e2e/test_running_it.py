"""Starting, stopping, killing and starting again: the data stays, and nothing else does."""

import json
import signal
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass

import httpx2
import pytest

from tests.support.client import TRANSPORT_ERRORS, Client, administrator, running
from tests.support.eventually import eventually
from tests.support.platform import PARTS, SERVICES, Platform, home_directory, running_platform

STOP_LIMIT_SECONDS = 5
BACK_SECONDS = 30


@pytest.fixture
def own_platform() -> Iterator[Platform]:
    """Return a platform that does not run yet, to be started and stopped at will."""
    with home_directory() as directory:
        platform = Platform(directory)
        yield platform
        if platform.left():
            platform.stop()


async def chain_is_whole(platform: Platform) -> list[str]:
    """Read the audit log from its first record; return the services' names, a record each."""
    done = await platform.certwire("audit", "tail", "--from-sequence", "1", "--no-follow", "--json")
    assert (done.code, done.err) == (0, "")
    return [json.loads(line)["service"] for line in done.out.splitlines()]


@pytest.mark.timeout(180)
async def test_it_stops_in_time_and_goes_on_with_the_same_data(own_platform: Platform) -> None:
    own_platform.start()
    async with administrator(own_platform) as admin:
        workload, before = await running(admin), await chain_is_whole(own_platform)
    assert own_platform.stop(signal.SIGTERM) < STOP_LIMIT_SECONDS
    assert own_platform.runner.returncode == 0

    own_platform.start()
    async with Client(own_platform, workload.identity) as itself:
        workload.takes(await itself.renew(workload))
    after = await chain_is_whole(own_platform)
    assert len(after) > len(before)
    async with administrator(own_platform) as admin:  # with the certificate of the first start
        assert len(await admin.certificates(workload.id)) == 2
    assert own_platform.stop(signal.SIGINT) < STOP_LIMIT_SECONDS
    assert own_platform.runner.returncode == 0


@pytest.mark.timeout(180)
async def test_a_killed_runner_leaves_no_orphan_and_no_loss(own_platform: Platform) -> None:
    own_platform.start()
    async with administrator(own_platform) as admin:
        workload = await running(admin)
    assert own_platform.stop(signal.SIGKILL) < STOP_LIMIT_SECONDS

    own_platform.start()
    async with Client(own_platform, workload.identity) as itself:
        workload.takes(await itself.renew(workload))
    await chain_is_whole(own_platform)


# --- Parts that die ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mortal() -> Iterator[Platform]:
    """Return a platform whose parts may be killed; each test leaves it whole."""
    with running_platform() as platform:
        yield platform


async def is_whole(platform: Platform) -> bool:
    """Return whether every part is ready, by what the platform says of itself."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        try:
            ready = await http.get(f"http://127.0.0.1:{platform.http_port}/readyz")
        except httpx2.TransportError:
            return False
    return ready.status_code == 200 and (await platform.certwire("status")).code == 0


@dataclass(frozen=True)
class Absence:
    """What is seen while a part is dead."""

    status: dict[str, str]
    """What `certwire status` says of the parts that are not ready."""
    readiness: set[str]
    """What the gateway says is missing."""
    renewal: int
    """What an instance hears that renews; 0 where nobody answers."""
    administration: int
    """What the administrator hears."""


NEEDED = ("issuer", "registry", "instance", "acme", "audit")
SILENT = "it does not run"
UNKNOWN = "unknown without NATS"
WITHOUT = {
    "postgres": Absence(
        {
            "postgres": "it does not answer",
            "gateway": "issuer: postgres",
            **dict.fromkeys(NEEDED, "postgres"),
        },
        {f"{service}: postgres" for service in NEEDED},
        renewal=503,
        administration=503,
    ),
    "nats": Absence(
        {"nats": "does not answer", **dict.fromkeys(SERVICES, UNKNOWN)},
        {"nats"},
        renewal=503,
        administration=503,
    ),
    "gateway": Absence({"gateway": SILENT}, set(), renewal=0, administration=0),
    "issuer": Absence(
        {"issuer": SILENT, "gateway": "issuer"}, {"issuer"}, renewal=503, administration=200
    ),
    "registry": Absence(
        {"registry": SILENT, "gateway": "registry"}, {"registry"}, renewal=200, administration=503
    ),
    "instance": Absence(
        {"instance": SILENT, "gateway": "instance"}, {"instance"}, renewal=503, administration=503
    ),
    "acme": Absence({"acme": SILENT, "gateway": "acme"}, {"acme"}, renewal=200, administration=200),
    "audit": Absence(
        {"audit": SILENT, "gateway": "audit"}, {"audit"}, renewal=200, administration=200
    ),
}


@pytest.mark.parametrize("part", WITHOUT)
async def test_a_killed_part_is_missed_and_comes_back_by_itself(
    mortal: Platform, part: str
) -> None:
    absence = WITHOUT[part]
    async with administrator(mortal) as admin:
        workload = await running(admin)
        async with Client(mortal, workload.identity) as itself:
            with mortal.without(part):
                await eventually(lambda: is_missed(mortal, absence), f"{part} is missed")
                assert await heard(itself.renew(workload, trouble=True)) == absence.renewal
                assert await heard(admin.get(workload.id, trouble=True)) == absence.administration
            await eventually(lambda: is_whole(mortal), f"{part} is back", seconds=BACK_SECONDS)
            assert f"{part} ended with SIGKILL" in mortal.said
            workload.takes(await itself.renew(workload))


async def is_missed(platform: Platform, absence: Absence) -> bool:
    """Whether status and readiness say what is expected; the gateway asks around once a second."""
    status = await what_the_status_says(platform)
    return (
        status.keys() == absence.status.keys()
        and all(words in status[name] for name, words in absence.status.items())
        and await what_readiness_says(platform) == absence.readiness
    )


async def what_the_status_says(platform: Platform) -> dict[str, str]:
    """Return the parts that are not ready, and why."""
    done = await platform.certwire("status", "--json")
    status = json.loads(done.out)
    missing = {
        report["service"]: ", ".join(report["missing"])
        for report in status["parts"]
        if not report["ready"]
    }
    assert status["ready"] is (not missing)
    assert done.code == int(bool(missing))
    return missing


async def what_readiness_says(platform: Platform) -> set[str]:
    """Return what is missing in the gateway's own words; the public port has only one."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        try:
            public = await http.get(f"http://127.0.0.1:{platform.http_port}/readyz")
        except httpx2.TransportError:
            return set()
        details = await http.get(f"http://127.0.0.1:{platform.ports()['ops-gateway']}/readyz")
    missing = set(details.json()["missing"])
    assert (public.status_code, public.text) == (
        (503, "not ready\n") if missing else (200, "ready\n")
    )
    assert details.status_code == public.status_code
    return missing


async def heard(call: Awaitable[httpx2.Response]) -> int:
    """Return the status of an answer; what is no success says nothing about the inside."""
    try:
        response = await call
    except TRANSPORT_ERRORS:
        return 0
    if response.status_code != 200:
        detail = {"detail": "Service unavailable", "request_id": response.headers["x-request-id"]}
        assert response.json() == detail
    return response.status_code


# --- Whole ---------------------------------------------------------------------------------------


async def test_the_status_of_a_whole_platform(mortal: Platform) -> None:
    await eventually(lambda: is_whole(mortal), "everything is ready")
    lines = (await mortal.succeed("status")).splitlines()
    assert lines[0].split() == ["PART", "VERSION", "STATE", "WAITING", "MISSING"]
    parts = {line.split()[0]: line.split()[1:3] for line in lines[1 : len(PARTS) + 1]}
    assert parts.keys() == set(PARTS)
    assert all(state == "ready" for _version, state in parts.values())
    assert "certwire bootstrap clear" in lines[-1]
    assert await what_readiness_says(mortal) == set()


async def test_two_platforms_side_by_side_know_nothing_of_each_other(
    mortal: Platform, own_platform: Platform
) -> None:
    own_platform.start()
    assert not set(mortal.ports().values()) & set(own_platform.ports().values())
    async with administrator(mortal) as admin, administrator(own_platform) as other:
        workload = await running(admin)
        assert (await other.get(workload.id)).status_code == 404
    with pytest.raises(TRANSPORT_ERRORS):
        async with Client(own_platform, workload.identity) as stranger:
            await stranger.renew(workload)
    assert own_platform.stop() < STOP_LIMIT_SECONDS
    assert await is_whole(mortal)
