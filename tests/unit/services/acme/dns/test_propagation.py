"""Records at every server of a zone, delegated challenges, CAA."""

from collections.abc import AsyncIterator

import dns.rcode
import dns.zone
import pytest

from services.acme.dns import DnsProviderError, lookup, propagation
from services.acme.dns.propagation import (
    addresses,
    caa_permits,
    challenge_name,
    look_at,
    missing_at,
)
from tests.support.name_servers import FIRST, RESOLVER, SECOND, THIRD, SmallDns, small_dns, zone
from tests.support.pebble import challenge_dns

NAME = "_acme-challenge.www.example.test"
CHILD = "_acme-challenge.child.example.test"
ONE, TWO = "A" * 43, "B" * 43
EXAMPLE = f"""
@ NS ns1
@ NS ns2
ns1 A {FIRST}
ns2 A {SECOND}
www A 192.0.2.1
child NS ns.child
ns.child A {THIRD}
_acme-challenge.moved CNAME moved.acme.test.
_acme-challenge.twice CNAME once.example.test.
once CNAME twice.acme.test.
_acme-challenge.circle CNAME round.example.test.
round CNAME _acme-challenge.circle.example.test.
_acme-challenge.odd CNAME a\\032b.example.test.
_acme-challenge.gone CNAME gone.elsewhere.test.
"""
CHILD_ZONE = f"@ NS ns\nns A {THIRD}\n_acme-challenge.up CNAME up.example.test.\n"
ACME_ZONE = f"@ NS ns\nns A {THIRD}\n"


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SmallDns]:
    monkeypatch.setattr(lookup, "UDP_SECONDS", 0.2)
    held = {
        FIRST: [zone("example.test", EXAMPLE)],
        SECOND: [zone("example.test", EXAMPLE)],
        THIRD: [zone("child.example.test", CHILD_ZONE), zone("acme.test", ACME_ZONE)],
    }
    async with small_dns(held) as there:
        yield there


# --- Propagation ---------------------------------------------------------------------------------


async def test_a_record_has_to_be_at_every_server(there: SmallDns) -> None:
    wanted = {NAME: {ONE}}
    assert await missing_at(wanted, None, there.network) == [
        f"ns1.example.test ({FIRST}) does not have the TXT record of {NAME} yet",
        f"ns2.example.test ({SECOND}) does not have the TXT record of {NAME} yet",
    ]
    there[FIRST].set_txt(NAME, ONE)
    assert await missing_at(wanted, None, there.network) == [
        f"ns2.example.test ({SECOND}) does not have the TXT record of {NAME} yet"
    ]
    there[SECOND].set_txt(NAME, "another", ONE)
    assert await missing_at(wanted, None, there.network) == []


async def test_a_wildcard_and_the_name_above_it_have_two(there: SmallDns) -> None:
    for server in (there[FIRST], there[SECOND]):
        server.set_txt(NAME, ONE)
    assert await missing_at({NAME: {ONE, TWO}}, None, there.network) == [
        f"ns1.example.test ({FIRST}) does not have 1 of 2 TXT records of {NAME} yet",
        f"ns2.example.test ({SECOND}) does not have 1 of 2 TXT records of {NAME} yet",
    ]
    for server in (there[FIRST], there[SECOND]):
        server.set_txt(NAME, ONE, TWO)
    assert await missing_at({NAME: [ONE, TWO]}, None, there.network) == []


async def test_a_value_may_come_in_pieces(there: SmallDns) -> None:
    for server in (there[FIRST], there[SECOND]):
        server.set_txt(NAME, ONE[:20] + '" "' + ONE[20:])
    assert await missing_at({NAME: {ONE}}, None, there.network) == []


async def test_a_server_that_does_not_answer_counts_and_comes_last(there: SmallDns) -> None:
    there[FIRST].silent = True
    assert await missing_at({NAME: {ONE}}, None, there.network) == [
        f"ns2.example.test ({SECOND}) does not have the TXT record of {NAME} yet",
        f"No answer about {NAME}: ns1.example.test ({FIRST}) does not answer in time",
    ]


async def test_what_resolvers_keep_does_not_count(there: SmallDns) -> None:
    there[RESOLVER].set_txt(NAME, ONE)
    assert len(await missing_at({NAME: {ONE}}, None, there.network)) == 2
    there[RESOLVER].set_txt(NAME)
    for server in (there[FIRST], there[SECOND]):
        server.set_txt(NAME, ONE)
    assert await missing_at({NAME: {ONE}}, None, there.network) == []


async def test_a_child_zone_has_servers_of_its_own(there: SmallDns) -> None:
    there[THIRD].set_txt(CHILD, ONE)
    assert await missing_at({CHILD: {ONE}}, None, there.network) == []
    assert (CHILD, "TXT") not in there[FIRST].asked
    assert await missing_at({CHILD: {ONE}, NAME: {TWO}}, None, there.network) == [
        f"ns1.example.test ({FIRST}) does not have the TXT record of {NAME} yet",
        f"ns2.example.test ({SECOND}) does not have the TXT record of {NAME} yet",
    ]


async def test_a_resolver_in_the_settings_is_the_only_one(there: SmallDns) -> None:
    resolver = f"{RESOLVER}:{there.network.port}"
    assert await missing_at({NAME: {ONE}}, resolver) == [
        f"{resolver} does not have the TXT record of {NAME} yet"
    ]
    there[RESOLVER].set_txt(NAME, ONE)
    assert await missing_at({NAME: {ONE}}, resolver) == []
    assert there[FIRST].asked == []


async def test_a_dns_that_is_away_is_words(there: SmallDns) -> None:
    there[RESOLVER].code = dns.rcode.SERVFAIL
    (words,) = await missing_at({NAME: {ONE}}, None, there.network)
    assert words.startswith(f"No answer about {NAME}: {RESOLVER}")
    assert await missing_at({}, None, there.network) == []


async def test_who_lacks_a_record_is_told_from_who_does_not_answer(there: SmallDns) -> None:
    there[FIRST].set_txt(NAME, ONE)
    there[SECOND].silent = True
    sight = await look_at({NAME: {ONE}}, None, there.network)
    assert sight.lacking == ()
    assert sight.seen == frozenset({NAME})
    assert len(sight.silent) == 1
    sight = await look_at({NAME: {ONE, TWO}}, None, there.network)
    assert len(sight.lacking) == 1
    assert sight.seen == frozenset()


async def test_looking_has_an_end(there: SmallDns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "LOOK_SECONDS", 0.1)
    there[RESOLVER].silent = True
    assert await missing_at({NAME: {ONE}}, None, there.network) == [
        f"No answer about {NAME}: the DNS took over 0.1 s"
    ]
    with pytest.raises(DnsProviderError, match=r"took over 0\.1 s"):
        await challenge_name("www.example.test", None, there.network)


# --- Delegated challenges ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("www.example.test", NAME),
        ("*.www.example.test", NAME),
        ("WWW.example.test", NAME),
        ("child.example.test", CHILD),
        ("up.child.example.test", "up.example.test"),
        ("moved.example.test", "moved.acme.test"),
        ("twice.example.test", "twice.acme.test"),
    ],
)
async def test_where_a_record_belongs(there: SmallDns, domain: str, name: str) -> None:
    assert await challenge_name(domain, None, there.network) == name


async def test_a_cname_of_a_while_ago_does_not_count(there: SmallDns) -> None:
    resolver = there[RESOLVER]
    resolver.zones = [
        held for held in resolver.zones if held.origin and held.origin.to_text() != "acme.test."
    ]
    resolver.zones[0] = zone("example.test", EXAMPLE.replace("moved.acme", "old.acme"))
    resolver.zones.append(zone("acme.test", ACME_ZONE))
    assert await challenge_name("moved.example.test", None, there.network) == "moved.acme.test"


@pytest.mark.parametrize(
    ("domain", "words", "transient"),
    [
        ("circle.example.test", "leads in a circle", False),
        ("odd.example.test", "what is no name of a record", False),
        ("gone.example.test", "No answer about gone.elsewhere.test", True),
        ("example.invalid", "No answer about _acme-challenge.example.invalid", True),
    ],
)
async def test_where_no_record_belongs(
    there: SmallDns, domain: str, words: str, *, transient: bool
) -> None:
    with pytest.raises(DnsProviderError, match=words) as caught:
        await challenge_name(domain, None, there.network)
    assert caught.value.transient is transient


async def test_cnames_have_an_end(there: SmallDns) -> None:
    chain = "".join(f"c{n} CNAME c{n + 1}.example.test.\n" for n in range(20))
    long = zone("example.test", f"{EXAMPLE}_acme-challenge.long CNAME c0\n{chain}")
    for address in (FIRST, SECOND):
        there[address].zones = [long]
    with pytest.raises(DnsProviderError, match="over more than 8 names"):
        await challenge_name("long.example.test", None, there.network)


async def test_a_domain_that_leaves_no_room_for_a_challenge(there: SmallDns) -> None:
    with pytest.raises(DnsProviderError, match="leaves no room") as caught:
        await challenge_name("a." * 120 + "test", None, there.network)
    assert not caught.value.transient


async def test_what_is_no_domain(there: SmallDns) -> None:
    for domain in ("", "a b.test", "a..test", "www.*.test"):
        with pytest.raises(ValueError, match="not a DNS name"):
            await challenge_name(domain, None, there.network)
        with pytest.raises(ValueError, match="not a DNS name"):
            await addresses(domain, None, there.network)


# --- Addresses and CAA ---------------------------------------------------------------------------


async def test_addresses(there: SmallDns) -> None:
    assert await addresses("www.example.test", None, there.network) == ["192.0.2.1"]
    assert await addresses("none.example.test", None, there.network) == []
    there[RESOLVER].code = dns.rcode.SERVFAIL
    with pytest.raises(DnsProviderError, match="answers SERVFAIL") as caught:
        await addresses("www.example.test", None, there.network)
    assert caught.value.transient


CAA = {
    "test": '@ NS ns\nns A 127.0.0.4\n@ CAA 0 issue "tld-ca.test"\n',
    "example.test": '@ NS ns\nns A 127.0.0.4\n@ CAA 0 issue "ca.test"\n@ CAA 0 issuewild ";"\n'
    'a CAA 0 issue "another.test"\nb.a A 192.0.2.1\nc CNAME a\n'
    'd CAA 128 tbs "Unknown"\ne CAA 0 issue "\\195\\164;"\n'
    'f CAA 0 issue "ca.test; validationmethods=dns-01"\n',
}


@pytest.fixture
async def with_caa() -> AsyncIterator[SmallDns]:
    held: dict[str, list[dns.zone.Zone]] = {THIRD: [zone(*each) for each in CAA.items()]}
    async with small_dns(held) as there:
        yield there


@pytest.mark.parametrize(
    ("domain", "wildcard", "words"),
    [
        ("example.test", False, None),
        ("www.example.test", False, None),
        ("x.y.z.example.test", False, None),
        ("*.example.test", True, "The CAA records of example.test let no CA issue"),
        ("a.example.test", False, "The CAA records of a.example.test let only another.test issue"),
        ("b.a.example.test", False, "The CAA records of a.example.test let only another.test"),
        ("c.example.test", False, "The CAA records of c.example.test let only another.test"),
        ("d.example.test", False, "The CAA records of d.example.test have the critical property"),
        ("e.example.test", False, "The CAA records of e.example.test let only .. issue"),
        ("another.test", False, "The CAA records of test let only tld-ca.test issue"),
    ],
)
async def test_caa_of_the_closest_name(
    with_caa: SmallDns, domain: str, *, wildcard: bool, words: str | None
) -> None:
    said = await caa_permits(
        domain, ["ca.test"], wildcard=wildcard, resolver=None, network=with_caa.network
    )
    if words is None:
        assert said is None
    else:
        assert said is not None
        assert said.replace("?", ".").startswith(words)
        assert said.isascii()


async def test_caa_of_a_method(with_caa: SmallDns) -> None:
    for method, permitted in (("dns-01", True), ("http-01", False)):
        said = await caa_permits(
            "f.example.test",
            ["ca.test"],
            wildcard=False,
            resolver=None,
            method=method,
            network=with_caa.network,
        )
        assert (said is None) is permitted


async def test_no_caa_at_all(there: SmallDns) -> None:
    there[RESOLVER].zones.append(zone("test", "@ NS ns\n"))
    for wildcard in (True, False):
        said = await caa_permits(
            "www.example.test", [], wildcard=wildcard, resolver=None, network=there.network
        )
        assert said is None


async def test_caa_that_nobody_tells_is_a_refusal(with_caa: SmallDns) -> None:
    with_caa[RESOLVER].code = dns.rcode.SERVFAIL
    said = await caa_permits(
        "example.test", ["ca.test"], wildcard=False, resolver=None, network=with_caa.network
    )
    assert said is not None
    assert said.startswith("The CAA records of example.test are not known: 127.0.0.53")
    assert said.endswith("answers SERVFAIL")


# --- The DNS that other tests use ----------------------------------------------------------------


async def test_pebbles_dns_as_a_resolver() -> None:
    with challenge_dns() as challenges:
        at = challenges.address
        assert await challenge_name("www.example.test", at) == NAME
        assert len(await missing_at({NAME: {ONE}}, at)) == 1
        challenges.add_txt(NAME, ONE)
        assert await missing_at({NAME: {ONE}}, at) == []
        challenges.set_cname(NAME, "elsewhere.test")
        assert await challenge_name("www.example.test", at) == "elsewhere.test"
        challenges.add_txt("elsewhere.test", TWO)
        assert await missing_at({"elsewhere.test": {TWO}}, at) == []
        assert await addresses("www.example.test", at) == ["127.0.0.1"]
        challenges.set_caa("example.test", ("issue", "another.test"))
        said = await caa_permits("www.example.test", ["ca.test"], wildcard=False, resolver=at)
        assert said == "The CAA records of example.test let only another.test issue"
        permitted = ["another.test"]
        assert await caa_permits("example.test", permitted, wildcard=True, resolver=at) is None
        challenges.set_servfail("example.test")
        said = await caa_permits("www.example.test", ["ca.test"], wildcard=False, resolver=at)
        assert said is not None
        assert "are not known" in said
