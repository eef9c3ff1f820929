"""What may be said of an agent."""

import pytest

from contracts.agents import Agent, Capability, EnrollmentMethod
from contracts.errors import ErrorCode
from contracts.principal import Principal, PrincipalKind
from services.registry.domain.agents import (
    CSR_BYTES,
    MOST_SITES,
    PAGE_BYTES,
    check_csr_size,
    checked_capabilities,
    checked_sites,
    first_page,
    is_authorised,
)
from shared.clock import utc_now
from tests.support.outcomes import refused

READ, WRITE = Capability.TUNNELS_READ, Capability.TUNNELS_WRITE


def test_a_capability_counts_once_and_keeps_its_place() -> None:
    assert checked_capabilities([WRITE, READ, WRITE, READ]) == (WRITE, READ)


@pytest.mark.parametrize("given", [[], [WRITE], list(Capability)[1:]])
def test_tunnels_read_is_never_missing(given: list[Capability]) -> None:
    with refused(ErrorCode.INVALID_REQUEST) as error:
        checked_capabilities(given)
    assert error.value.parameters == {"field": "capabilities"}


@pytest.mark.parametrize("site", ["blog", "a", "x" * 100, "my site", "日本", "...", ".well-known"])
def test_a_site_may_have_any_plain_name(site: str) -> None:
    assert checked_sites([site, site]) == (site,)


@pytest.mark.parametrize(
    "site",
    [
        "", ".", "..", "a/b", "../etc", "a\\b", "x" * 101, "a\x00", "a\nb", "\x7f", "a\x85b",
        "a\u2028b", "a\u202egnp",
    ],
)  # fmt: skip
def test_a_site_is_no_path_and_holds_no_control_character(site: str) -> None:
    with refused(ErrorCode.INVALID_REQUEST) as error:
        checked_sites(["blog", site])
    assert error.value.parameters == {"field": "allowedSites"}


def test_the_number_of_sites_is_bounded() -> None:
    sites = [str(n) for n in range(MOST_SITES)]
    assert len(checked_sites(sites)) == MOST_SITES
    with refused(ErrorCode.INVALID_REQUEST):
        checked_sites([*sites, "one more"])


def test_the_size_of_a_csr_is_counted_in_bytes() -> None:
    check_csr_size("x" * CSR_BYTES)
    for csr in ("x" * (CSR_BYTES + 1), "é" * (CSR_BYTES // 2 + 1)):
        with refused(ErrorCode.CSR_TOO_LARGE):
            check_csr_size(csr)


def test_an_agent_needs_the_capability_and_the_site() -> None:
    agent = Principal(
        kind=PrincipalKind.AGENT,
        id="1",
        name="mac",
        capabilities=("tunnels:read", "sites:read"),
        allowed_sites=("blog",),
    )
    assert is_authorised(agent, "sites:read", "blog")
    assert is_authorised(agent, "sites:read", None)
    for capability, site in (("sites:write", "blog"), ("sites:read", "docs"), ("", None)):
        assert not is_authorised(agent, capability, site)


def an_agent(*sites: str) -> Agent:
    now = utc_now()
    return Agent(
        label="a",
        serial_hex="1",
        capabilities=(READ,),
        allowed_sites=sites,
        enrollment_method=EnrollmentMethod.P12,
        created_at=now,
        expires_at=now,
        revoked=False,
    )


def test_a_page_ends_at_its_limit_and_at_what_the_bus_bears() -> None:
    small = [an_agent("blog")] * 3
    assert first_page(small, 2) == 2
    assert first_page(small, 5) == 3
    assert first_page([], 5) == 0
    large = [an_agent(*("日" * 99 + str(n) for n in range(MOST_SITES)))] * 500
    count = first_page(large, 500)
    assert 100 < count < 500
    page = sum(len(agent.model_dump_json().encode()) for agent in large[:count])
    assert page < PAGE_BYTES + 500 * 300
    assert first_page([an_agent("x" * (PAGE_BYTES + 1))] * 2, 2) == 1
