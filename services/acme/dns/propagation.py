"""What the DNS says of a domain, before a CA is told to look: records, addresses, CAA.

`resolver` is the `host:port` that is asked; without one, the servers of the zone itself are, which
are where a CA's resolvers look. Resolvers keep answers, so that a record may seem missing.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import dns.name
import dns.rrset
from dns.rdatatype import RdataType

from services.acme.dns.caa import Property, refusal
from services.acme.dns.lookup import INTERNET, Dns, Network, NoAnswerError, Server, records
from services.acme.dns.names import record_name
from services.acme.dns.provider import DnsProviderError, name_below

CHALLENGE_LABEL: Final = "_acme-challenge"
"""RFC 8555 section 8.4."""
MOST_CNAMES: Final = 8
"""One after the other; resolvers give up soon after."""
LOOK_SECONDS: Final = 30.0
"""For all that one call asks."""
MOST_AT_ONCE: Final = 32
"""Servers that are asked at the same time."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What servers have, in words: who lacks a value yet, and who does not answer.

    `seen` are the names of which a server has all values.
    """

    lacking: tuple[str, ...]
    silent: tuple[str, ...]
    seen: frozenset[str]

    @property
    def missing(self) -> tuple[str, ...]:
        """Return all that is in the way; those that answer come first."""
        return (*self.lacking, *self.silent)


async def missing_at(
    wanted: Mapping[str, Collection[str]],
    resolver: str | None,
    network: Network = INTERNET,
) -> list[str]:
    """Return who does not have all TXT values of all names yet, in words; nobody, when all do."""
    return list((await look_at(wanted, resolver, network)).missing)


async def look_at(
    wanted: Mapping[str, Collection[str]],
    resolver: str | None,
    network: Network = INTERNET,
) -> Sight:
    """Return which servers have the TXT values of names.

    Never raises for what the DNS says or leaves unsaid.
    """
    look = _Look(Dns(resolver, network))
    try:
        async with _in_time():
            await asyncio.gather(*(look.at(name, set(wanted[name])) for name in wanted))
    except NoAnswerError as error:
        return Sight((), (_unanswered(", ".join(wanted), error),), frozenset())
    return Sight(tuple(sorted(look.lacking)), tuple(sorted(look.silent)), frozenset(look.seen))


class _Look:
    """One look at the records of some names."""

    def __init__(self, there: Dns) -> None:
        self._dns = there
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self.lacking: set[str] = set()
        self.silent: set[str] = set()
        self.seen: set[str] = set()

    async def at(self, name: str, values: set[str]) -> None:
        """Look at every server of a name."""
        try:
            servers = await self._dns.servers(_absolute(name))
        except NoAnswerError as error:
            self.silent.add(_unanswered(name, error))
            return
        await asyncio.gather(*(self._ask(server, name, values) for server in servers))

    async def _ask(self, server: Server, name: str, values: set[str]) -> None:
        try:
            async with self._turns:
                answer = await self._dns.ask_holder(server, _absolute(name), RdataType.TXT)
            found = {b"".join(record.strings) for record in records(answer)}
        except NoAnswerError as error:
            self.silent.add(_unanswered(name, error))
            return
        if missing := len(values - {value.decode(errors="replace") for value in found}):
            what = (
                f"{missing} of {len(values)} TXT records" if len(values) > 1 else "the TXT record"
            )
            self.lacking.add(f"{server} does not have {what} of {name} yet")
        else:
            self.seen.add(name)


async def challenge_name(domain: str, resolver: str | None, network: Network = INTERNET) -> str:
    """Return where a domain's records belong: its own name, or the one that a CNAME leads to.

    Raises `DnsProviderError`, and ValueError for what is no domain.
    """
    there = Dns(resolver, network)
    first = name_below(CHALLENGE_LABEL, _plain(domain))
    passed = [first]
    try:
        async with _in_time():
            while (target := await _cname(there, passed[-1])) is not None:
                if target in passed:
                    raise _leads_nowhere(first, "in a circle")
                if len(passed) > MOST_CNAMES:
                    raise _leads_nowhere(first, f"over more than {MOST_CNAMES} names")
                passed.append(target)
    except NoAnswerError as error:
        raise DnsProviderError(_unanswered(passed[-1], error), transient=True) from None
    return passed[-1]


async def _cname(there: Dns, name: str) -> str | None:
    """Return the target of a CNAME. Raises `NoAnswerError`, `DnsProviderError` for no DNS name."""
    answer = await there.ask_zone(_absolute(name), RdataType.CNAME)
    for found in answer.answer:
        if found.rdtype == RdataType.CNAME and found.name == _absolute(name):
            target = found[0].target.to_text(omit_final_dot=True)
            try:
                return record_name(target)
            except ValueError:
                raise _leads_nowhere(name, "to what is no name of a record") from None
    return None


def _leads_nowhere(name: str, where: str) -> DnsProviderError:
    return DnsProviderError(f"The CNAME at {name} leads {where}")


async def addresses(domain: str, resolver: str | None, network: Network = INTERNET) -> list[str]:
    """Return the IPv4 and IPv6 addresses of a domain; none where it has none.

    Raises `DnsProviderError` where the DNS does not say, and ValueError for what is no domain.
    """
    name = record_name(domain)
    try:
        async with _in_time():
            return await Dns(resolver, network).addresses(_absolute(name))
    except NoAnswerError as error:
        raise DnsProviderError(_unanswered(name, error), transient=True) from None


async def caa_permits(
    domain: str,
    identities: Sequence[str],
    *,
    wildcard: bool,
    resolver: str | None,
    method: str | None = None,
    network: Network = INTERNET,
) -> str | None:
    """Return why a CA may not issue for a domain, in words; None where it may (RFC 8659).

    `identities` are the CA's `caaIdentities` (RFC 8555 section 7.1.1), `method` is the challenge
    that it is to use, such as dns-01. That the DNS does not say is a reason: CAs refuse then, too.
    """
    there = Dns(resolver, network)
    name = _absolute(record_name(_plain(domain)))
    try:
        async with _in_time():
            while name != dns.name.root:
                if found := records(await there.resolve(name, RdataType.CAA)):
                    return _refused(name, found, identities, wildcard=wildcard, method=method)
                name = name.parent()  # section 3: the closest records count, and they alone
    except NoAnswerError as error:
        return f"The CAA records of {_text(name)} are not known: {error}"
    return None


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Raise `NoAnswerError` where the block takes too long."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            yield
    except TimeoutError:
        raise NoAnswerError(f"the DNS took over {LOOK_SECONDS:g} s") from None


def _refused(
    name: dns.name.Name,
    found: dns.rrset.RRset,
    identities: Sequence[str],
    *,
    wildcard: bool,
    method: str | None,
) -> str | None:
    properties = [
        Property(record.flags, _printable(record.tag), _printable(record.value)) for record in found
    ]
    why = refusal(properties, identities, wildcard=wildcard, method=method)
    return None if why is None else f"The CAA records of {_text(name)} {why}"


def _printable(octets: bytes) -> str:
    """Return text of which what is no printable ASCII is a question mark: it is shown to people."""
    return "".join(chr(octet) if 0x20 <= octet < 0x7F else "?" for octet in octets)  # noqa: PLR2004 - ASCII


def _unanswered(name: str, error: NoAnswerError) -> str:
    return f"No answer about {name}: {error}"


def _plain(domain: str) -> str:
    """Return the domain that a wildcard's records are for (RFC 8555 section 7.1.3)."""
    return domain.removeprefix("*.")


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(f"{name}.")


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)
