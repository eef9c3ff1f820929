"""What a DNS provider does for us, and how it fails."""

import secrets
from dataclasses import dataclass
from typing import Final, Protocol

from services.acme.dns.names import record_name

PROBE_LABEL: Final = "_certwire-preflight"
PROBE_BYTES: Final = 32
"""Of a challenge's own size, so that what takes the one takes the other."""


class DnsProvider(Protocol):
    """Writes TXT records. Every call raises `DnsProviderError`, and ValueError for what is no name.

    Names are whole, without a dot at the end. Both calls may be repeated, and leave the other
    values of a name alone: a wildcard and the name above it share one.
    """

    async def add(self, name: str, value: str) -> None:
        """Let there be a record; it may be there already."""

    async def remove(self, name: str, value: str) -> None:
        """Let there be no such record; it may be gone already."""


class DnsProviderError(Exception):
    """A provider does not do it. `reason` is for the people whose zone it is, without secrets.

    A transient one may be tried again, after `retry_after_seconds` where the provider says so.
    """

    def __init__(
        self, reason: str, *, transient: bool = False, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason: Final = reason
        self.transient: Final = transient
        self.retry_after_seconds: Final = retry_after_seconds


def name_below(label: str, domain: str) -> str:
    """Return the name of a record below a domain.

    Raises ValueError for what is no domain, `DnsProviderError` for one that is too long.
    """
    plain = record_name(domain)
    try:
        return record_name(f"{label}.{plain}")
    except ValueError:
        raise DnsProviderError(f"{plain} leaves no room for a record below it") from None


@dataclass(frozen=True, slots=True)
class Probe:
    """A record of a name that nobody asks for."""

    name: str
    value: str

    @classmethod
    def below(cls, domain: str) -> "Probe":
        """Return a new one below a domain. Raises as `name_below`."""
        name = name_below(PROBE_LABEL, domain.removeprefix("*."))
        return cls(name, secrets.token_urlsafe(PROBE_BYTES))


async def check_access(provider: DnsProvider, probe: Probe) -> None:
    """Make sure that the credentials may write, by a record that is added and removed.

    Raises as `DnsProvider`; the record may be there then, and where the caller gives up.
    """
    await provider.add(probe.name, probe.value)
    await provider.remove(probe.name, probe.value)
