"""Logins and the sessions that they make."""

import hashlib
import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contracts.principal import Principal, PrincipalKind, Role

ACCESS_MINUTES: Final = 15
REFRESH_HOURS: Final = 24
TOKEN_BYTES: Final = 32
"""256 random bits, so that a plain hash is enough to store them."""
WINDOW_SECONDS: Final = 60
IPV6_NETWORK_BITS: Final = 64
"""What one customer has at the least (RFC 6177), and so what counts as one address."""


class RefreshState(StrEnum):
    """Why a refresh token is not taken."""

    SPENT = "spent"
    ENDED = "ended"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Flags:
    """What a user may do beside the role."""

    create_ca: bool = False
    create_cert: bool = False
    revoke_cert: bool = False
    export_private_key: bool = False
    delete_ca: bool = False

    def capabilities(self) -> tuple[str, ...]:
        """Return the names of those that are set."""
        return tuple(name for name in self.__slots__ if getattr(self, name))


def user_principal(
    user_id: int, username: str, role: Role, organization_id: int | None, flags: Flags
) -> Principal:
    """Return the principal that a user's tokens stand for."""
    return Principal(
        kind=PrincipalKind.USER,
        id=str(user_id),
        name=username,
        organization_id=organization_id,
        role=role,
        capabilities=flags.capabilities(),
    )


def counted_address(address: str | None) -> str:
    """Return the address under which logins are counted: of IPv6 the network."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return address or ""
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, IPV6_NETWORK_BITS), strict=False))


def counted_username(username: str) -> str:
    """Return what stands for the name in the count: what was typed may be a password."""
    return hashlib.sha256(username.encode()).hexdigest()
