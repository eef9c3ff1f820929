"""How far in an address is, and where a preflight goes."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.acme.domain.addresses import Reach, may_be_asked, reach_of

REACHES = {
    Reach.PUBLIC: [
        "8.8.8.8",
        "93.184.215.14",
        "2606:4700::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
    Reach.PRIVATE: [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",  # RFC 6598: a provider's own network
        "192.0.2.1",
        "198.18.0.1",
        "fd00:ec2::254",
        "2001:db8::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
    ],
    Reach.LOOPBACK: ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"],
    Reach.NOWHERE: [
        "0.0.0.0",  # noqa: S104 - an address that is asked about
        "0.1.2.3",
        "169.254.169.254",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::127.0.0.1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
    ],
}
EACH = [(address, reach) for reach, listed in REACHES.items() for address in listed]


@pytest.mark.parametrize(("address", "reach"), EACH)
def test_every_kind_of_address_has_its_reach(address: str, reach: Reach) -> None:
    assert reach_of(address) is reach


@pytest.mark.parametrize(("address", "reach"), EACH)
def test_nobody_is_asked_further_in_than_the_ca_is(address: str, reach: Reach) -> None:
    assert may_be_asked(address, Reach.PUBLIC) == (reach is Reach.PUBLIC)
    assert may_be_asked(address, Reach.PRIVATE) == (reach <= Reach.PRIVATE)
    assert may_be_asked(address, Reach.LOOPBACK) == (reach <= Reach.LOOPBACK)
    assert may_be_asked(address, Reach.NOWHERE) == (reach <= Reach.LOOPBACK)


@given(st.ip_addresses())
def test_what_is_public_is_nowhere_inside(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if reach_of(str(address)) is Reach.PUBLIC:
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_loopback
        assert not address.is_link_local
    if address.is_loopback:
        assert reach_of(str(address)) is Reach.LOOPBACK


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        reach_of("localhost")
