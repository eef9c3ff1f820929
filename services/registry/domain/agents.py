"""What may be said of an agent: its capabilities, its sites, and the size of its CSR."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from contracts.agents import Agent, Capability
from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Principal

SITE_CHARACTERS: Final = 100
"""The rulings' number."""
MOST_SITES: Final = 100
"""As many as a person would still review; each is a line in every list of agents."""
PAGE_BYTES: Final = 4 * 1024 * 1024
"""What a page of agents takes on the bus at most: half of its `max_payload`."""
CSR_BYTES: Final = 8192
"""The portlama specification's number."""
NOT_IN_SITES: Final = frozenset("/\\")
CONTROL: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Unicode's categories of control, format, line and paragraph separators."""


def checked_capabilities(given: Iterable[Capability]) -> tuple[Capability, ...]:
    """Return each capability once, in order. Raises `INVALID_REQUEST` without `tunnels:read`."""
    capabilities = tuple(dict.fromkeys(given))
    if Capability.TUNNELS_READ not in capabilities:
        raise _invalid("capabilities", f"capabilities must include {Capability.TUNNELS_READ}")
    return capabilities


def checked_sites(given: Iterable[str]) -> tuple[str, ...]:
    """Return each site once, in order. Raises `INVALID_REQUEST` for what is no name of a site."""
    sites = tuple(dict.fromkeys(given))
    if len(sites) > MOST_SITES:
        raise _invalid("allowedSites", f"an agent has at most {MOST_SITES} sites")
    if not all(map(_is_site, sites)):
        raise _invalid(
            "allowedSites",
            f"a site has 1 to {SITE_CHARACTERS} characters,"
            " no path separators and no control characters",
        )
    return sites


def _is_site(name: str) -> bool:
    return (
        1 <= len(name) <= SITE_CHARACTERS
        and name not in {".", ".."}
        and NOT_IN_SITES.isdisjoint(name)
        and not any(unicodedata.category(character) in CONTROL for character in name)
    )


def check_csr_size(csr_pem: str) -> None:
    """Raise `CSR_TOO_LARGE` above the limit in bytes."""
    if len(csr_pem.encode(errors="replace")) > CSR_BYTES:
        raise CertwireError(ErrorCode.CSR_TOO_LARGE)


def is_authorised(agent: Principal, capability: str, site: str | None) -> bool:
    """Return whether the agent has the capability and, where one is named, the site."""
    return capability in agent.capabilities and (site is None or site in agent.allowed_sites)


def first_page(agents: Sequence[Agent], limit: int) -> int:
    """Return how many of the agents make a page: at most `limit`, and what the bus bears."""
    size = 0
    for count, agent in enumerate(agents[:limit]):
        size += sum(len(site.encode()) + 3 for site in agent.allowed_sites)
        if size > PAGE_BYTES:
            return max(1, count)
    return min(limit, len(agents))


def _invalid(field: str, detail: str) -> CertwireError:
    return CertwireError(ErrorCode.INVALID_REQUEST, detail, parameters={"field": field})
