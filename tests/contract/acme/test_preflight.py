"""Preflights over the bus: what is in the way of an order, said before a CA hears of one."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from contracts.acme import (
    ChallengeType,
    CheckIssuance,
    DnsAccess,
    GetHttpChallenge,
    Issuance,
    Preflight,
)
from contracts.dns import DnsProviderName
from contracts.errors import CertwireError, ErrorCode
from services.acme import http_probe, preflight
from services.acme.answers import Answers
from services.acme.app import open_acme
from services.acme.domain.addresses import Reach
from services.acme.handlers.preflight import check_issuance
from services.acme.service import Acme
from services.acme.settings import AcmeSettings
from services.acme.store import accounts, challenges
from services.embedded import free_port
from tests.contract.acme.conftest import settings_for
from tests.contract.acme.dialogue import WELL_KNOWN, WRITER, Dialogue, http_issuance, key_of
from tests.support.dns_providers.cloudflare import CloudflareApi
from tests.support.dns_providers.faults import Faulty, serving, status
from tests.support.dns_providers.hosting import MemoryHosting, into
from tests.support.pebble import ChallengeDns, Pebble, pebble
from tests.support.running import call
from tests.support.servers import Place

TOKEN = "a-token-of-cloudflare"
DOMAIN = "shop.example.com"
PROJECT = "INSERT INTO project (id, name, domain) VALUES ('shop', 'Shop', $1)"
KEPT = "SELECT count(*) FROM http_challenge"


@dataclass
class Alone:
    """One replica without a bus, with a project that has a domain."""

    acme: Acme
    domain: str = DOMAIN

    async def check(self, issuance: Issuance | None = None) -> dict[str, str | None]:
        """Return what is in the way, by the check."""
        command = CheckIssuance(
            call=call(60), actor=WRITER, project_id="shop", issuance=issuance or http_issuance()
        )
        return reasons(await check_issuance(command, self.acme))

    async def kept(self) -> int:
        """Return how many challenges are answered."""
        async with self.acme.runtime.database.connection() as connection:
            number: int = await connection.fetchval(KEPT)
        return number


def reasons(found: Preflight) -> dict[str, str | None]:
    assert all(each.ok == (each.reason is None) for each in found.checks)
    return {each.name: each.reason for each in found.checks}


async def opened(settings: AcmeSettings, domain: str = DOMAIN) -> Alone:
    acme = await open_acme(settings)
    async with acme.runtime.database.connection() as connection:
        await connection.execute(PROJECT, domain)
    return Alone(acme, domain)


async def ended(alone: Alone) -> None:
    await alone.acme.close()
    await alone.acme.runtime.close()


@pytest.fixture
async def alone(place: Place, authority: Pebble, names: ChallengeDns) -> AsyncIterator[Alone]:
    """Nobody answers on its port for http-01."""
    made = await opened(settings_for(place, authority, names, acme_http01_port=free_port()))
    yield made
    await ended(made)


@dataclass
class Host:
    """A host of somebody else; `seen` are the requests that arrived."""

    reply: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"
    seen: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.reply)
        await writer.drain()
        writer.close()


@pytest.fixture
async def host(alone: Alone) -> AsyncIterator[Host]:
    made = Host()
    server = await asyncio.start_server(
        made.serve, "127.0.0.1", alone.acme.settings.acme_http01_port
    )
    yield made
    server.close()
    await server.wait_closed()


@pytest.fixture
def renamed(names: ChallengeDns) -> Iterator[ChallengeDns]:
    """A DNS of which a test may say what it likes."""
    yield names
    for kind in ("a", "aaaa", "caa", "servfail"):
        names._post(f"clear-{kind}", host=f"{DOMAIN}.")
    names.clear_cname(f"_acme-challenge.{DOMAIN}")


# --- Everything is fine ---------------------------------------------------------------------------


async def test_what_an_order_needs_is_there(acme: Dialogue) -> None:
    """The token goes through the database, another replica, and the gateway's port."""
    await acme.project("shop", DOMAIN)
    found = await acme.ask(CheckIssuance, project_id="shop", issuance=http_issuance())
    assert [(each.name, each.reason) for each in found.checks] == [
        ("ca", None),
        ("dns", None),
        ("http", None),
        ("caa", None),
    ]
    assert await acme.tables.values("SELECT count(*) FROM acme.http_challenge") == [0]
    assert await acme.tables.values("SELECT count(*) FROM acme.acme_order") == [0]
    assert (await acme.actions())[-1] == ("cert_preflight", "success")


async def test_a_repeat_is_answered_as_the_first_time(acme: Dialogue) -> None:
    await acme.project("shop", DOMAIN)
    first, second = [
        await acme.ask(CheckIssuance, key="k", project_id="shop", issuance=http_issuance())
        for _ in range(2)
    ]
    assert first == second
    assert [action for action, _ in await acme.actions()].count("cert_preflight") == 1


# --- http-01 --------------------------------------------------------------------------------------


async def test_an_address_where_nobody_listens(alone: Alone) -> None:
    port = alone.acme.settings.acme_http01_port
    assert await alone.check() == {
        "ca": None,
        "dns": f"{DOMAIN} resolves to 127.0.0.1, which did not answer on port {port}: "
        "connection refused",
        "http": "Not tried: no address of the domain answers",
        "caa": None,
    }
    assert await alone.kept() == 0


async def test_somebody_elses_server_answers(alone: Alone, host: Host) -> None:
    found = await alone.check()
    assert found["dns"] is None
    assert found["http"] == (
        f"Challenges for {DOMAIN} do not arrive here: at 127.0.0.1 it answered with something else"
    )
    [seen] = host.seen
    assert seen.startswith(f"GET {WELL_KNOWN}")
    assert f"\r\nHost: {DOMAIN}\r\n" in seen
    assert await alone.kept() == 0


async def test_a_server_that_redirects(alone: Alone, host: Host) -> None:
    host.reply = b"HTTP/1.1 301 Moved\r\nLocation: http://169.254.169.254/\r\n\r\n"
    found = (await alone.check())["http"]
    assert found is not None
    assert "it redirects" in found
    assert "169.254" not in found


async def test_one_of_two_addresses_leads_somewhere_else(
    alone: Alone, host: Host, renamed: ChallengeDns
) -> None:
    """It is told which; one that does not answer is left alone by CAs, too."""
    assert host.seen == []
    renamed.set_aaaa(DOMAIN, "::1")
    found = await alone.check()
    assert (found["dns"], "at 127.0.0.1 " in (found["http"] or "")) == (None, True)
    assert "::1" not in (found["http"] or "")


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255"],  # noqa: S104 - where nobody goes
)
async def test_no_address_is_asked_that_no_ca_looks_at(
    alone: Alone, host: Host, renamed: ChallengeDns, address: str
) -> None:
    renamed.set_a(DOMAIN, address)
    found = await alone.check()
    assert found["dns"] == (
        f"{DOMAIN} resolves to {address}, where the CA cannot look: not a public address"
    )
    assert host.seen == []
    assert await alone.kept() == 0


@pytest.mark.parametrize("reach", ["PUBLIC", "PRIVATE"])
async def test_a_ca_that_is_not_on_this_machine_has_no_reason_to_ask_it(
    alone: Alone, host: Host, monkeypatch: pytest.MonkeyPatch, reach: str
) -> None:
    async def further_out(_host: str) -> Reach:
        return Reach[reach]

    monkeypatch.setattr(preflight, "_reach_of_host", further_out)
    found = await alone.check()
    assert "127.0.0.1, where the CA cannot look" in (found["dns"] or "")
    assert host.seen == []


@pytest.mark.parametrize(
    ("name", "reach"),
    [
        ("127.0.0.1", "LOOPBACK"),
        ("localhost", "LOOPBACK"),
        ("10.1.2.3", "PRIVATE"),
        ("8.8.8.8", "PUBLIC"),
        ("2606:4700::1", "PUBLIC"),
        ("no-such-host.invalid", "PUBLIC"),
    ],
)
async def test_how_far_in_a_ca_is(name: str, reach: str) -> None:
    assert await preflight._reach_of_host(name) is Reach[reach]


async def test_a_domain_without_an_address_or_an_answer(
    alone: Alone, renamed: ChallengeDns
) -> None:
    renamed.set_servfail(DOMAIN)
    found = await alone.check()
    assert "SERVFAIL" in (found["dns"] or "")
    assert "SERVFAIL" in (found["caa"] or "")
    renamed.clear_servfail(DOMAIN)
    renamed.set_default_ipv4("")
    try:
        assert (await alone.check())["dns"] == f"{DOMAIN} has no address"
    finally:
        renamed.set_default_ipv4("127.0.0.1")


async def test_the_challenge_ends_by_itself_where_the_process_does_not(alone: Alone) -> None:
    database = alone.acme.runtime.database
    async with database.connection() as connection:
        await challenges.insert(connection, "t" * 43, "e", None, 0.2)
        assert await challenges.find(connection, "t" * 43) == "e"
        await asyncio.sleep(0.3)
        assert await challenges.find(connection, "t" * 43) is None
    assert await alone.kept() == 1
    await alone.check()
    assert await alone.kept() == 0


async def test_a_caller_who_gives_up_leaves_nothing(alone: Alone, host: Host) -> None:
    del host
    task = asyncio.create_task(alone.check())
    while not await alone.kept() and not task.done():
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await alone.kept() == 0


async def test_one_that_takes_too_long_does_not_take_the_others_with_it(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forever(*_arguments: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(preflight, "CHECK_SECONDS", 0.5)
    monkeypatch.setattr(preflight, "addresses", forever)
    found = await alone.check()
    assert (found["ca"], found["caa"]) == (None, None)
    assert found["dns"] == preflight.TOO_LONG


# --- The CA ---------------------------------------------------------------------------------------


async def test_caa_records_that_name_another_ca(alone: Alone, renamed: ChallengeDns) -> None:
    renamed.set_caa(DOMAIN, ("issue", "other-ca.example"))
    found = (await alone.check())["caa"]
    assert found is not None
    assert f"The CAA records of {DOMAIN} let only other-ca.example issue" in found


async def test_a_ca_that_is_away(place: Place, names: ChallengeDns, authority: Pebble) -> None:
    away = f"https://127.0.0.1:{free_port()}/dir"
    made = await opened(settings_for(place, authority, names, acme_directory_url=away))
    try:
        found = await made.check()
    finally:
        await ended(made)
    assert (found["ca"] or "").startswith("The CA is unavailable: ")
    assert found["caa"] == "Not tried: the CA's names are not known"


async def test_a_ca_that_limits_us(alone: Alone) -> None:
    directory = alone.acme.settings.acme_directory_url
    async with alone.acme.runtime.database.transaction() as connection:
        await accounts.pause(connection, directory, 120, "too many orders", 100)
    assert (await alone.check())["ca"] == "The CA limits us for another 120 s: too many orders"


async def test_a_profile_that_the_ca_does_not_have(
    place: Place, names: ChallengeDns, authority: Pebble
) -> None:
    made = await opened(settings_for(place, authority, names, acme_profile="shortlived"))
    try:
        found = await made.check()
    finally:
        await ended(made)
    assert found["ca"] == "The CA has no profile shortlived; it offers none"


@pytest.mark.parametrize("is_set", [False, True])
async def test_a_ca_that_wants_an_external_account(
    place: Place, names: ChallengeDns, *, is_set: bool
) -> None:
    with pebble(names, external_accounts={"kid": b"k" * 32}) as ca:
        eab = {"acme_eab_kid": "kid", "acme_eab_hmac_key": "a2tr" * 10 + "a2s"} if is_set else {}
        made = await opened(settings_for(place, ca, names, **eab))
        try:
            found = await made.check()
        finally:
            await ended(made)
    expected = None if is_set else "The CA needs an external account, and none is in the settings"
    assert found["ca"] == expected


# --- dns-01 ---------------------------------------------------------------------------------------


@dataclass
class Zone:
    hosting: MemoryHosting
    provider: Faulty
    alone: Alone

    async def check(self, token: str = TOKEN) -> dict[str, str | None]:
        access = DnsAccess(provider=DnsProviderName.CLOUDFLARE, credentials={"apiToken": token})
        issuance = http_issuance(challenge_type=ChallengeType.DNS_01, dns=access)
        return await self.alone.check(issuance)

    def left(self) -> list[str]:
        zones = self.hosting.zones.values()
        return [name for zone in zones for name, values in zone.records.items() if values]


@pytest.fixture(params=[DOMAIN, f"*.{DOMAIN}"])
async def zone(
    request: pytest.FixtureRequest, place: Place, authority: Pebble, names: ChallengeDns
) -> AsyncIterator[Zone]:
    hosting = MemoryHosting(into(names))
    hosting.host("example.com")
    provider = Faulty(CloudflareApi(hosting, TOKEN).application)
    async with serving(provider) as url:
        base_url = f"{url}/client/v4"
        settings = settings_for(place, authority, names, acme_dns_cloudflare_base_url=base_url)
        alone = await opened(settings, request.param)
        yield Zone(hosting, provider, alone)
        await ended(alone)


async def test_credentials_that_may_write(zone: Zone) -> None:
    assert await zone.check() == {"ca": None, "dns": None, "caa": None, "provider": None}
    assert zone.provider.calls("POST") == 1
    assert zone.left() == []


async def test_credentials_that_may_not(zone: Zone) -> None:
    found = await zone.check("another-token")
    assert found["provider"] is not None
    assert "another-token" not in json.dumps(found)
    assert (found["ca"], found["dns"], found["caa"]) == (None, None, None)


async def test_a_delegated_challenge_is_tried_where_it_leads(
    zone: Zone, renamed: ChallengeDns
) -> None:
    renamed.set_cname(f"_acme-challenge.{DOMAIN}", "shop.challenges.example.net")
    found = await zone.check()
    assert "example.net" in (found["provider"] or "")
    zone.hosting.host("example.net")
    assert (await zone.check())["provider"] is None
    assert zone.left() == []


async def test_a_probe_whose_reply_is_lost_is_removed_later(zone: Zone) -> None:
    async def lost(scope: Scope, receive: Receive, send: Send) -> None:
        provider = zone.provider
        await (provider.lost if scope["method"] == "POST" else provider.own)(scope, receive, send)

    zone.provider.always = lost
    assert (await zone.check())["provider"] is not None
    assert zone.left() == [f"_certwire-preflight.{DOMAIN}"]
    zone.provider.always = None
    acme = zone.alone.acme
    async with acme.runtime.database.statement() as connection:
        await connection.execute("UPDATE dns_record SET remove_at = now()")
    assert await Answers(acme).remove_some() == 1
    assert zone.left() == []
    assert await Answers(acme).remove_some() == 0


async def test_a_provider_that_is_away(zone: Zone) -> None:
    zone.provider.always = status(503)
    assert (await zone.check())["provider"] is not None


# --- Who may, and when ----------------------------------------------------------------------------


async def test_it_needs_permission_to_write_and_a_domain(acme: Dialogue) -> None:
    await acme.project("shop", None)
    with pytest.raises(CertwireError) as refused:
        await acme.ask(CheckIssuance, project_id="shop", issuance=http_issuance())
    assert refused.value.code is ErrorCode.AGAINST_POLICY
    reader: dict[str, Any] = {"actor": key_of("projects:read"), "issuance": http_issuance()}
    with pytest.raises(CertwireError) as refused:
        await acme.ask(CheckIssuance, project_id="shop", **reader)
    assert refused.value.code is ErrorCode.FORBIDDEN
    with pytest.raises(CertwireError) as refused:
        await acme.ask(CheckIssuance, project_id="none", issuance=http_issuance())
    assert refused.value.code is ErrorCode.NOT_FOUND


async def test_only_so_many_at_the_same_time(alone: Alone) -> None:
    for _ in range(10):
        await alone.acme.preflights.acquire()
    with pytest.raises(CertwireError) as refused:
        await alone.check()
    assert refused.value.code is ErrorCode.RATE_LIMITED
    assert refused.value.retry_after_seconds
    alone.acme.preflights.release()
    assert (await alone.check())["ca"] is None


async def test_nobody_learns_a_challenge_that_is_not_theirs(acme: Dialogue) -> None:
    with pytest.raises(CertwireError) as refused:
        await acme.ask(GetHttpChallenge, token="t" * 43)
    assert refused.value.code is ErrorCode.NOT_FOUND
    assert http_probe.PATH == WELL_KNOWN
