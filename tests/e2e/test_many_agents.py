"""Ten thousand agents, over HTTPS."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.agents import AGENTS, MANY_AGENTS
from tests.support.client import Client, administrator
from tests.support.platform import Platform, running_platform

TEN_THOUSAND = 10_000
AGAIN = "again"
"""A label that was used and revoked a hundred times."""
LIST_SECONDS, PAGE_SECONDS = 20, 5
"""Far more than it takes (2 s and 0.1 s), for tests have neighbours."""


@pytest.fixture(scope="module")
def crowded() -> Iterator[Platform]:
    """Return a platform of many agents: other tests read lists from beginning to end."""
    with running_platform() as platform:
        yield platform


@pytest.fixture
async def warden(crowded: Platform) -> AsyncIterator[Client]:
    """Return the administrator of the crowded platform; there are ten thousand agents."""
    count = "SELECT count(*) FROM registry.agent"
    async with administrator(crowded) as warden:
        if not await crowded.value(count):
            async with crowded.superuser() as connection:
                await connection.execute(MANY_AGENTS)
                await connection.execute("ANALYZE registry.agent, registry.agent_certificate")
            assert (await warden.call("POST", AGENTS, {"label": AGAIN})).status_code == 200
            assert (await warden.call("DELETE", f"{AGENTS}/{AGAIN}")).status_code == 200
        assert await crowded.value(count) >= TEN_THOUSAND
        yield warden


async def listed(warden: Client, **query: object) -> dict[str, Any]:
    """Return a list as it is answered."""
    response = await warden.call("GET", AGENTS, params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def paged(warden: Client, limit: int) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the pages of a list."""
    page = await listed(warden, limit=limit)
    while True:
        yield page["agents"]
        if page["nextCursor"] is None:
            return
        page = await listed(warden, limit=limit, cursor=page["nextCursor"])


async def test_the_list_without_parameters_has_all_ten_thousand(
    crowded: Platform, warden: Client
) -> None:
    began = time.monotonic()
    answer = await listed(warden)
    seconds = time.monotonic() - began
    assert seconds < LIST_SECONDS
    agents = answer["agents"]
    assert len(agents) == TEN_THOUSAND
    stored = await crowded.values(
        "SELECT serial_hex FROM registry.shown_agent ORDER BY id LIMIT $1", TEN_THOUSAND
    )
    assert [int(agent["serial"], 16) for agent in agents] == [int(serial, 16) for serial in stored]
    used = [agent for agent in agents if agent["label"] == AGAIN]
    assert len(used) == 100
    assert all(agent["revoked"] and not agent["expiringSoon"] for agent in used)


async def test_paging_visits_each_once_whatever_happens_meanwhile(
    crowded: Platform, warden: Client
) -> None:
    there = await crowded.values("SELECT serial_hex FROM registry.shown_agent ORDER BY id")
    seen: Counter[int] = Counter()
    slowest = 0.0
    began = time.monotonic()
    async for page in paged(warden, 500):
        slowest = max(slowest, time.monotonic() - began)
        seen.update(int(agent["serial"], 16) for agent in page)
        # One that was seen and one that was not are revoked, and another is made.
        for label in (page[0]["label"], f"agent-{TEN_THOUSAND - len(seen) - 1}"):
            await warden.call("DELETE", f"{AGENTS}/{label}")
        await warden.call("POST", AGENTS, {"label": f"meanwhile-{len(seen)}"})
        began = time.monotonic()
    assert slowest < PAGE_SECONDS
    assert set(seen.values()) == {1}
    assert {int(serial, 16) for serial in there} <= seen.keys()


async def test_more_than_ten_thousand_have_a_next_page(warden: Client) -> None:
    made = await warden.call("POST", AGENTS, {"label": AGAIN})  # for the hundred and first time
    assert made.status_code == 200
    taken = await warden.call("POST", AGENTS, {"label": AGAIN})
    assert taken.status_code == 409
    first = await listed(warden)
    assert len(first["agents"]) == TEN_THOUSAND
    rest = await listed(warden, cursor=first["nextCursor"])
    assert rest["nextCursor"] is None
    assert [agent["label"] for agent in rest["agents"] if not agent["revoked"]][-1] == AGAIN
    assert rest["agents"][-1]["serial"] == made.json()["serial"]
    assert (await warden.call("DELETE", f"{AGENTS}/{AGAIN}")).status_code == 200
