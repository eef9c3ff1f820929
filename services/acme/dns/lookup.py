"""Questions to DNS servers: to the one in the settings, else to those of the zone itself.

No answer is kept, and none that comes from elsewhere than the server is heard. Each question takes
a bounded time, over UDP first, over TCP where the answer is cut off.
"""

import asyncio
import errno
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset
from dns.rdatatype import RdataType

from services.acme.domain.addresses import Reach, reach_of

DNS_PORT: Final = 53
UDP_SECONDS: Final = 2.0
UDP_TRIES: Final = 2
"""A lost packet is no silence."""
TCP_SECONDS: Final = 5.0
MOST_NAME_SERVERS: Final = 13
"""As many as the root and large zones have."""
MOST_SERVERS: Final = 32
"""Addresses of a zone's servers that are asked."""

Answer = dns.message.QueryMessage

_NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
)
_SERVED: Final = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})
_BACKEND: Final = dns.asyncbackend.get_backend("asyncio")


@dataclass(frozen=True, slots=True)
class Server:
    """A DNS server's address, and the name by which its zone has it."""

    address: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        """Return what people know it by."""
        return f"{self.name} ({self.address})" if self.name else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Network:
    """Where the DNS is, where no resolver is set: in tests a small one on this machine."""

    resolvers: tuple[Server, ...] | None = None
    """Who finds the zones' servers; None are those of /etc/resolv.conf."""
    port: int = DNS_PORT
    """Of the zones' servers."""


INTERNET: Final = Network()


class NoAnswerError(Exception):
    """Nobody answered the question. The text is a clause about who did not, and how."""


class Dns:
    """The DNS, seen through one resolver or directly. Every call raises `NoAnswerError`."""

    def __init__(self, resolver: str | None, network: Network) -> None:
        self._resolver = resolver
        self._network = network

    async def resolve(self, name: dns.name.Name, kind: RdataType) -> Answer:
        """Return a resolver's answer, which follows CNAMEs."""
        failure = NoAnswerError("this machine has no resolver")
        for server in await self._resolvers():
            try:
                return await ask(server, name, kind, authoritative=False)
            except NoAnswerError as error:
                failure = error
        raise failure

    async def ask_zone(self, name: dns.name.Name, kind: RdataType) -> Answer:
        """Return the answer of one of the servers that hold the name."""
        failure = NoAnswerError("it has no servers")
        for server in await self.servers(name):
            try:
                return await self.ask_holder(server, name, kind)
            except NoAnswerError as error:
                failure = error
        raise failure

    async def ask_holder(self, server: Server, name: dns.name.Name, kind: RdataType) -> Answer:
        """Return the answer of one of the `servers`."""
        return await ask(server, name, kind, authoritative=self._resolver is None)

    async def servers(self, name: dns.name.Name) -> Sequence[Server]:
        """Return all that hold a name: its zone's servers, or the resolver that is set."""
        if self._resolver is not None:
            return await self._resolvers()
        zone = await self._zone(name)
        found = records(await self.resolve(zone, RdataType.NS))
        names = sorted(record.target for record in found)[:MOST_NAME_SERVERS]
        if not names:
            raise NoAnswerError(f"{_text(zone)} has no name servers")
        looked_up = await asyncio.gather(*map(self._addresses_of, names))
        servers = [
            Server(address, self._network.port, _text(name))
            for name, addresses in zip(names, looked_up, strict=True)
            for address in addresses
        ]
        if not servers:
            raise NoAnswerError(f"the name servers of {_text(zone)} have no addresses")
        return reachable(servers)[:MOST_SERVERS]

    async def addresses(self, name: dns.name.Name) -> list[str]:
        """Return the IPv4 and IPv6 addresses of a name."""
        kinds = (RdataType.A, RdataType.AAAA)
        answers = await asyncio.gather(*(self.resolve(name, kind) for kind in kinds))
        return [record.address for answer in answers for record in records(answer)]

    async def _addresses_of(self, name: dns.name.Name) -> list[str]:
        """Return the addresses of a name server; another may have some where it has none."""
        try:
            found = await self.addresses(name)
        except NoAnswerError:
            return []
        return [address for address in found if reach_of(address) is not Reach.NOWHERE]

    async def _zone(self, name: dns.name.Name) -> dns.name.Name:
        """Return the zone that a name lies in: by its SOA, or by the one that a denial carries."""
        while name != dns.name.root:
            answer = await self.resolve(name, RdataType.SOA)
            said = [*answer.answer, *answer.authority]
            # After a CNAME it is of the target's zone that an SOA speaks.
            if not any(found.rdtype == RdataType.CNAME for found in said):
                for found in said:
                    if found.rdtype == RdataType.SOA and name.is_subdomain(found.name):
                        return found.name
            name = name.parent()
        raise NoAnswerError("it is in no zone")

    async def _resolvers(self) -> Sequence[Server]:
        if self._resolver is not None:
            return await _servers_at(self._resolver)
        if self._network.resolvers is not None:
            return self._network.resolvers
        return _system_resolvers()


async def ask(
    server: Server, name: dns.name.Name, kind: RdataType, *, authoritative: bool
) -> Answer:
    """Return a server's answer, that there is no such name included. Raises `NoAnswerError`."""
    question = dns.message.make_query(name, kind)
    if authoritative:
        question.flags &= ~dns.flags.RD
    answer = await _exchange(server, question)
    if answer.rcode() not in _SERVED:
        raise NoAnswerError(f"{server} answers {dns.rcode.to_text(answer.rcode())}")
    if authoritative and not answer.flags & dns.flags.AA:
        raise NoAnswerError(f"{server} does not hold the zone")
    return answer


async def _exchange(server: Server, question: Answer) -> Answer:
    try:
        return await _over_udp(server, question)
    except dns.message.Truncated:
        return await _over_tcp(server, question)


async def _over_udp(server: Server, question: Answer) -> Answer:
    """Raises `dns.message.Truncated` and `NoAnswerError`."""
    for _ in range(UDP_TRIES):
        try:
            async with asyncio.timeout(UDP_SECONDS):
                answer = await dns.asyncquery.udp(
                    question,
                    server.address,
                    None,
                    server.port,
                    ignore_unexpected=True,  # others, who would like to be heard instead
                    ignore_errors=True,
                    raise_on_truncation=True,
                    backend=_BACKEND,
                )
                return _checked(server, answer)
        except TimeoutError:
            continue
        except OSError as error:
            raise NoAnswerError(f"{server} cannot be asked: {error.strerror or error}") from None
    raise NoAnswerError(f"{server} does not answer in time")


async def _over_tcp(server: Server, question: Answer) -> Answer:
    """Raises `NoAnswerError`."""
    try:
        async with asyncio.timeout(TCP_SECONDS):
            answer = await dns.asyncquery.tcp(
                question, server.address, None, server.port, backend=_BACKEND
            )
    except TimeoutError:
        raise NoAnswerError(f"{server} does not answer in time over TCP") from None
    except (OSError, EOFError, dns.exception.DNSException):
        raise NoAnswerError(f"{server} does not answer over TCP") from None
    return _checked(server, answer)


def _checked(server: Server, answer: dns.message.Message) -> Answer:
    """Return an answer that is one to a query. Raises `NoAnswerError`."""
    if not isinstance(answer, Answer):
        raise NoAnswerError(f"{server} answers what was not asked")
    return answer


def records(answer: Answer) -> dns.rrset.RRset | tuple[()]:
    """Return what was asked for, at the end of all CNAMEs. Raises `NoAnswerError`."""
    try:
        return answer.resolve_chaining().answer or ()
    except dns.exception.DNSException:
        raise NoAnswerError("the CNAMEs in the answer lead nowhere") from None


def reachable(servers: Iterable[Server]) -> list[Server]:
    """Leave out the servers of a protocol that this machine does not speak; all, if it is all."""
    every = list(servers)
    return [server for server in every if _has_route(server)] or every


def _has_route(server: Server) -> bool:
    """Return whether the machine would know where to send a packet. None is sent."""
    family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((server.address, server.port))
    except OSError as error:
        return error.errno not in _NO_ROUTE
    return True


def _system_resolvers() -> list[Server]:
    try:
        addresses = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration:
        raise NoAnswerError("this machine has no resolver") from None
    return [Server(address, DNS_PORT) for address in map(str, addresses)]


async def _servers_at(resolver: str) -> list[Server]:
    """Return the addresses of a host with an optional port, such as `[::1]:8053`."""
    host, port = split_resolver(resolver)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError:
        raise NoAnswerError(f"the resolver {host} has no address") from None
    return reachable(Server(str(address[0]), port) for *_, address in found)


def split_resolver(resolver: str) -> tuple[str, int]:
    """Return host and port. Raises `NoAnswerError`."""
    host, colon, port = resolver.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):  # without a port
        host, port = resolver, str(DNS_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise NoAnswerError("the resolver in the settings is no host:port")
    return host, int(port)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)
