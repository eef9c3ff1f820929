"""DNS servers of a test's own, each with zones of its own: a small DNS on this machine.

The servers have addresses of 127.0.0.0/8 and one port. One of them resolves: it knows everything,
as it was when it was told.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.zone
from dns.rdatatype import RdataType

from services.acme.dns.lookup import Network, Server

RESOLVER = "127.0.0.53"
FIRST, SECOND, THIRD = "127.0.0.2", "127.0.0.3", "127.0.0.4"
MOST_CNAMES = 20


def zone(origin: str, text: str) -> dns.zone.Zone:
    """Return a zone from its records, each with a TTL of a minute; it has an SOA."""
    head = f"$TTL 60\n@ SOA ns1.{origin}. admin.{origin}. 1 3600 600 86400 60\n"
    return dns.zone.from_text(head + text, f"{origin}.", relativize=False)


@dataclass
class NameServer:
    """A server, and how it behaves. `asked` are the names and types of its questions."""

    address: str
    zones: list[dns.zone.Zone] = field(default_factory=list)
    resolves: bool = False
    silent: bool = False
    cuts_off: bool = False
    """Over UDP nothing fits."""
    lame: bool = False
    """It answers, but not as one who holds the zone."""
    code: dns.rcode.Rcode | None = None
    """What it says instead of an answer."""
    sends: Callable[[bytes], Iterable[bytes]] = field(default=lambda answer: (answer,))
    """What goes over the network, of an answer."""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def set_txt(self, name: str, *values: str) -> None:
        """Let a name have these TXT records."""
        owner = dns.name.from_text(name)
        records = [f'"{value}"' for value in values]
        txt = dns.rdataset.from_text_list("IN", "TXT", 60, records)
        self._zone(owner).replace_rdataset(owner, txt)

    def answer(self, wire: bytes, *, udp: bool) -> bytes:
        """Return the answer to a question."""
        question = dns.message.from_wire(wire)
        asked = question.question[0]
        self.asked.append((asked.name.to_text(omit_final_dot=True), asked.rdtype.name))
        answer = dns.message.make_response(question)
        if self.resolves:
            answer.flags |= dns.flags.RA
        if self.code is not None:
            answer.set_rcode(self.code)
        elif udp and self.cuts_off:
            answer.flags |= dns.flags.TC
        else:
            self._find(answer, asked.name, asked.rdtype)
        return answer.to_wire()

    def _find(self, answer: dns.message.Message, name: dns.name.Name, kind: RdataType) -> None:
        for _ in range(MOST_CNAMES):
            held = self._zone_or_none(name)
            if held is None:
                if not answer.answer:
                    answer.set_rcode(dns.rcode.REFUSED)
                return
            if not (self.resolves or self.lame):
                answer.flags |= dns.flags.AA
            if self._refer(answer, held, name):
                return
            if found := held.get_rdataset(name, kind):
                answer.answer.append(dns.rrset.from_rdata_list(name, found.ttl, list(found)))
                return
            alias = held.get_rdataset(name, RdataType.CNAME)
            if alias is None:
                self._deny(answer, held, name)
                return
            answer.answer.append(dns.rrset.from_rdata_list(name, alias.ttl, list(alias)))
            name = alias[0].target
            if not self.resolves:
                return

    def _refer(self, answer: dns.message.Message, held: dns.zone.Zone, name: dns.name.Name) -> bool:
        """Say who holds a name below a zone cut."""
        assert held.origin is not None
        while name != held.origin:
            if delegation := held.get_rdataset(name, RdataType.NS):
                answer.flags &= ~dns.flags.AA
                answer.authority.append(dns.rrset.from_rdata_list(name, 60, list(delegation)))
                return True
            name = name.parent()
        return False

    def _deny(self, answer: dns.message.Message, held: dns.zone.Zone, name: dns.name.Name) -> None:
        assert held.origin is not None
        if not any(existing.is_subdomain(name) for existing in held.nodes):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        soa = held.get_rdataset(held.origin, RdataType.SOA)
        assert soa is not None
        answer.authority.append(dns.rrset.from_rdata_list(held.origin, 60, list(soa)))

    def _zone(self, name: dns.name.Name) -> dns.zone.Zone:
        found = self._zone_or_none(name)
        assert found is not None, name
        return found

    def _zone_or_none(self, name: dns.name.Name) -> dns.zone.Zone | None:
        """Return the zone with the longest name that the name lies in."""
        holding = [held for held in self.zones if held.origin and name.is_subdomain(held.origin)]
        return max(holding, key=lambda held: len(held.origin or ()), default=None)


async def _over_udp(server: NameServer, datagrams: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        data, address = await loop.sock_recvfrom(datagrams, 65_535)
        answer = server.answer(data, udp=True)
        if not server.silent:
            for datagram in server.sends(answer):
                await loop.sock_sendto(datagrams, datagram, address)


async def _over_tcp(
    server: NameServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while not server.silent:
            size = int.from_bytes(await reader.readexactly(2))
            answer = server.answer(await reader.readexactly(size), udp=False)
            writer.write(len(answer).to_bytes(2) + answer)
            await writer.drain()
    writer.close()


@dataclass
class SmallDns:
    """Some servers by their addresses, and the way to them."""

    network: Network
    servers: dict[str, NameServer]

    def __getitem__(self, address: str) -> NameServer:
        """Return a server."""
        return self.servers[address]


@contextlib.asynccontextmanager
async def small_dns(
    zones: dict[str, list[dns.zone.Zone]], *, resolver: str = RESOLVER
) -> AsyncIterator[SmallDns]:
    """Run servers with these zones, and a resolver that knows all of them, until the block ends."""
    servers = {address: NameServer(address, held) for address, held in zones.items()}
    everything = [held for server in servers.values() for held in server.zones]
    servers[resolver] = NameServer(resolver, _without_cuts(everything), resolves=True)
    async with contextlib.AsyncExitStack() as stack:
        port = 0
        for server in servers.values():
            port = await _serve(stack, server, port)
        yield SmallDns(Network((Server(resolver, port),), port), servers)


def _without_cuts(zones: Iterable[dns.zone.Zone]) -> list[dns.zone.Zone]:
    """Return copies; a delegation to a zone that is known, too, is not in the one above it."""
    copies: dict[dns.name.Name, dns.zone.Zone] = {}
    for held in zones:
        assert held.origin is not None
        copies[held.origin] = dns.zone.from_text(held.to_text(), held.origin, relativize=False)
    for held in copies.values():
        for origin in copies:
            if origin != held.origin and origin in held.nodes:
                held.delete_rdataset(origin, RdataType.NS)
    return list(copies.values())


async def _serve(stack: contextlib.AsyncExitStack, server: NameServer, port: int) -> int:
    """Listen on a port over UDP and TCP; 0 takes a free one. Return it."""
    stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stream.bind((server.address, port))
    port = stream.getsockname()[1]
    listener = await asyncio.start_server(
        lambda reader, writer: _over_tcp(server, reader, writer), sock=stream
    )
    await stack.enter_async_context(listener)
    datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    datagrams.setblocking(False)
    datagrams.bind((server.address, port))
    answering = asyncio.create_task(_over_udp(server, datagrams))
    stack.push_async_callback(asyncio.wait, [answering])
    stack.callback(answering.cancel)
    return int(port)
