"""Under which names logins are counted, and what a user's principal says."""

import pytest

from contracts.principal import Role
from services.registry.domain.sessions import (
    Flags,
    counted_address,
    counted_username,
    user_principal,
)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("somewhere", "somewhere"),
        (None, ""),
    ],
)
def test_an_ipv6_address_counts_as_its_network(address: str | None, counted: str) -> None:
    assert counted_address(address) == counted


def test_names_are_counted_by_their_hash() -> None:
    assert counted_username("hunter2") != counted_username("hunter3")
    assert "hunter2" not in counted_username("hunter2")


def test_a_users_flags_are_capabilities() -> None:
    flags = Flags(create_cert=True, delete_ca=True)
    principal = user_principal(7, "ada", Role.USER, 3, flags)
    assert principal.id == "7"
    assert principal.organization_id == 3
    assert principal.capabilities == ("create_cert", "delete_ca")
