"""Questions to servers that lag, lie, cut off or keep silent."""

import time
from collections.abc import AsyncIterator

import dns.name
import dns.rcode
import pytest
from dns.rdatatype import RdataType

from services.acme.dns import lookup
from services.acme.dns.lookup import (
    Dns,
    Network,
    NoAnswerError,
    Server,
    ask,
    reachable,
    split_resolver,
)
from tests.support.name_servers import FIRST, RESOLVER, SECOND, SmallDns, small_dns, zone

NAME = dns.name.from_text("www.example.test")
EXAMPLE = f"""
@ NS ns1
@ NS ns2
ns1 A {FIRST}
ns2 A {SECOND}
www A 192.0.2.1
www AAAA 2001:db8::1
alias CNAME www
loop CNAME loop
"""


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SmallDns]:
    monkeypatch.setattr(lookup, "UDP_SECONDS", 0.2)
    monkeypatch.setattr(lookup, "TCP_SECONDS", 0.5)
    held = {FIRST: [zone("example.test", EXAMPLE)], SECOND: [zone("example.test", EXAMPLE)]}
    async with small_dns(held) as there:
        yield there


def server(there: SmallDns, address: str = FIRST) -> Server:
    return Server(address, there.network.port, "ns1.example.test")


async def test_a_zones_servers(there: SmallDns) -> None:
    servers = await Dns(None, there.network).servers(NAME)
    assert [str(found) for found in servers] == [
        f"ns1.example.test ({FIRST})",
        f"ns2.example.test ({SECOND})",
    ]


async def test_addresses(there: SmallDns) -> None:
    for name in ("www.example.test", "alias.example.test"):
        found = await Dns(None, there.network).addresses(dns.name.from_text(name))
        assert found == ["192.0.2.1", "2001:db8::1"]
    none = await Dns(None, there.network).addresses(dns.name.from_text("none.example.test"))
    assert none == []
    with pytest.raises(NoAnswerError, match="lead nowhere"):
        await Dns(None, there.network).addresses(dns.name.from_text("loop.example.test"))


async def test_what_is_cut_off_is_asked_for_again_over_tcp(there: SmallDns) -> None:
    there[FIRST].cuts_off = True
    answer = await ask(server(there), NAME, RdataType.A, authoritative=True)
    assert answer.answer
    assert len(there[FIRST].asked) == 2


async def test_what_is_cut_off_over_udp_and_silent_over_tcp(
    there: SmallDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    there[FIRST].cuts_off = True
    monkeypatch.setattr(lookup, "UDP_SECONDS", 2)

    def and_be_silent(answer: bytes) -> tuple[bytes]:
        there[FIRST].silent = True
        return (answer,)

    there[FIRST].sends = and_be_silent
    with pytest.raises(NoAnswerError, match="does not answer over TCP"):
        await ask(server(there), NAME, RdataType.A, authoritative=True)


async def test_silence_is_bounded(there: SmallDns) -> None:
    there[FIRST].silent = True
    begun = time.monotonic()
    with pytest.raises(NoAnswerError, match="does not answer in time"):
        await ask(server(there), NAME, RdataType.A, authoritative=True)
    assert time.monotonic() - begun < 2
    assert len(there[FIRST].asked) == lookup.UDP_TRIES


async def test_a_lost_packet_is_no_silence(there: SmallDns) -> None:
    lost = iter([True])
    there[FIRST].sends = lambda answer: () if next(lost, False) else (answer,)
    assert (await ask(server(there), NAME, RdataType.A, authoritative=True)).answer


async def test_what_answers_no_question_of_ours_is_not_heard(there: SmallDns) -> None:
    def forged(answer: bytes) -> list[bytes]:
        other_id = bytes([answer[0] ^ 1]) + answer[1:]
        return [b"", b"\x00" * 11, other_id, answer[:20], answer[:2] + b"\xff" * 100, answer]

    there[FIRST].sends = forged
    answer = await ask(server(there), NAME, RdataType.A, authoritative=True)
    assert [record.address for record in answer.answer[0]] == ["192.0.2.1"]


async def test_garbage_alone_is_silence(there: SmallDns) -> None:
    there[FIRST].sends = lambda answer: [answer[:2] + b"\xff" * 100] * 3
    with pytest.raises(NoAnswerError, match="does not answer in time"):
        await ask(server(there), NAME, RdataType.A, authoritative=True)


async def test_who_does_not_hold_a_zone_has_no_say_in_it(there: SmallDns) -> None:
    there[FIRST].lame = True
    with pytest.raises(NoAnswerError, match=r"ns1.*does not hold the zone"):
        await ask(server(there), NAME, RdataType.A, authoritative=True)
    assert (await ask(server(there), NAME, RdataType.A, authoritative=False)).answer


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
async def test_a_refusal_is_no_answer(there: SmallDns, code: dns.rcode.Rcode) -> None:
    there[FIRST].code = code
    with pytest.raises(NoAnswerError, match=f"answers {code.name}"):
        await ask(server(there), NAME, RdataType.A, authoritative=True)


async def test_another_resolver_is_asked_where_one_fails(there: SmallDns) -> None:
    there[RESOLVER].code = dns.rcode.SERVFAIL
    working = Server(SECOND, there.network.port)
    network = Network((Server(RESOLVER, there.network.port), working), there.network.port)
    assert (await Dns(None, network).resolve(NAME, RdataType.A)).answer
    with pytest.raises(NoAnswerError, match=f"{RESOLVER}.*answers SERVFAIL"):
        await Dns(None, there.network).resolve(NAME, RdataType.A)
    with pytest.raises(NoAnswerError, match="no resolver"):
        await Dns(None, Network(())).resolve(NAME, RdataType.A)


async def test_another_server_of_the_zone_is_asked_where_one_fails(there: SmallDns) -> None:
    there[FIRST].lame = True
    assert (await Dns(None, there.network).ask_zone(NAME, RdataType.A)).answer
    there[SECOND].silent = True
    with pytest.raises(NoAnswerError, match=r"ns2.*does not answer in time"):
        await Dns(None, there.network).ask_zone(NAME, RdataType.A)


async def test_a_zone_without_servers_that_can_be_found(there: SmallDns) -> None:
    resolver = there[RESOLVER]
    resolver.zones = [zone("example.test", "@ NS ns1.elsewhere.test.\nwww A 192.0.2.1\n")]
    with pytest.raises(NoAnswerError, match=r"name servers of example\.test have no addresses"):
        await Dns(None, there.network).servers(NAME)
    with pytest.raises(NoAnswerError, match="answers REFUSED"):
        await Dns(None, there.network).servers(dns.name.from_text("elsewhere.test"))


async def test_servers_at_no_hosts_address_are_not_asked(there: SmallDns) -> None:
    held = "@ NS ns1\n@ NS ns2\nns1 A 0.0.0.0\nns1 A 224.0.0.1\nns2 A 127.0.0.9\nwww A 192.0.2.1\n"
    there[RESOLVER].zones = [zone("example.test", held)]
    servers = await Dns(None, there.network).servers(NAME)
    assert [found.address for found in servers] == ["127.0.0.9"]


async def test_a_zone_has_only_so_many_servers(there: SmallDns) -> None:
    held = "".join(f"@ NS ns{n}\n" for n in range(30))
    held += "".join(f"ns{n} A 127.0.{n}.{m}\n" for n in range(30) for m in range(1, 5))
    there[RESOLVER].zones = [zone("example.test", held)]
    there[RESOLVER].cuts_off = True
    assert len(await Dns(None, there.network).servers(NAME)) == lookup.MOST_SERVERS
    looked_up = {name for name, kind in there[RESOLVER].asked if kind == "A"}
    assert len(looked_up) == lookup.MOST_NAME_SERVERS


async def test_a_resolver_in_the_settings_is_the_only_one(there: SmallDns) -> None:
    mine = Dns(f"{SECOND}:{there.network.port}", Network((), 1))
    assert [found.address for found in await mine.servers(NAME)] == [SECOND]
    assert (await mine.ask_zone(NAME, RdataType.A)).answer
    assert (await mine.resolve(NAME, RdataType.A)).answer
    assert there[RESOLVER].asked == []
    by_name = Dns(f"localhost:{there.network.port}", Network())
    assert {found.address for found in await by_name.servers(NAME)} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("resolver", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:8053", "192.0.2.1", 8053),
        ("[2001:db8::1]:8053", "2001:db8::1", 8053),
        ("[2001:db8::1]", "2001:db8::1", 53),
        ("2001:db8::1", "2001:db8::1", 53),
        ("dns.test:53", "dns.test", 53),
    ],
)
def test_host_and_port(resolver: str, host: str, port: int) -> None:
    assert split_resolver(resolver) == (host, port)


@pytest.mark.parametrize("resolver", ["", ":53", "a:", "a:0", "a:65536", "a:x", "a:-1", "a:²"])
def test_no_host_and_port(resolver: str) -> None:
    with pytest.raises(NoAnswerError, match="no host:port"):
        split_resolver(resolver)


def test_a_protocol_that_the_machine_does_not_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Server("127.0.0.1", 53), Server("2001:db8::1", 53)
    monkeypatch.setattr(lookup, "_has_route", lambda server: ":" not in server.address)
    assert reachable([new, old]) == [old]
    assert reachable([new]) == [new]


def test_a_server_on_this_machine_is_reachable() -> None:
    here = Server("127.0.0.1", 53)
    assert lookup._has_route(here)
    assert reachable([here]) == [here]
