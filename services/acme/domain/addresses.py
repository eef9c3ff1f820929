"""Which addresses a domain may lead us to: whoever has an API key chooses the domain."""

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

NAT64: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052 section 2.1: its last 32 bits are an IPv4 address."""
GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All that has been given out (RFC 4291 section 2.4)."""
SIX_TO_FOUR: Final = IPv6Network("2002::/16")
UNIQUE_LOCAL: Final = IPv6Network("fc00::/7")
THIS_NETWORK_OCTET: Final = 0
"""The first of 0.0.0.0/8 (RFC 1122 section 3.2.1.3), which Linux takes for itself."""


class Reach(IntEnum):
    """From where an address can be reached, the widest first."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    NOWHERE = 3
    """No host that certificates are for: link-local, where clouds keep secrets; multicast; …"""


def reach_of(address: str) -> Reach:
    """Return the reach of an IP address. Raises ValueError."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv4Address):
        return _of_ipv4(parsed)
    if parsed.ipv4_mapped is not None:
        return _of_ipv4(parsed.ipv4_mapped)
    if parsed in NAT64:
        return _of_ipv4(IPv4Address(int(parsed) & 0xFFFF_FFFF))
    return _of_ipv6(parsed)


def may_be_asked(address: str, of_ca: Reach) -> bool:
    """Return whether a preflight may go to an address: as far in as the CA itself is.

    A public CA looks at public hosts alone, and so do we for it; one of a private network has
    private hosts to look at.
    """
    return reach_of(address) <= min(of_ca, Reach.LOOPBACK)


def _of_ipv4(address: IPv4Address) -> Reach:
    if address.is_loopback:
        return Reach.LOOPBACK
    if (
        address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.packed[0] == THIS_NETWORK_OCTET
    ):
        return Reach.NOWHERE
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


def _of_ipv6(address: IPv6Address) -> Reach:
    if address.is_loopback:
        return Reach.LOOPBACK
    if address in UNIQUE_LOCAL:
        return Reach.PRIVATE
    if address not in GLOBAL_UNICAST or address in SIX_TO_FOUR:
        return Reach.NOWHERE
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE
