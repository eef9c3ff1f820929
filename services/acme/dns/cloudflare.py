"""Cloudflare: each TXT record is an object of its own, so writers never meet.

https://developers.cloudflare.com/api/resources/dns/subresources/records/
"""

from typing import Annotated, Final

import httpx2
from pydantic import Field

from contracts.dns import CloudflareCredentials
from services.acme.dns.api import MOST_PAGES, Api, ApiModel, Reply, json_content
from services.acme.dns.names import zone_candidates
from services.acme.dns.provider import DnsProviderError

TTL_SECONDS: Final = 60
"""The lowest that every plan takes; 1 would mean that Cloudflare chooses."""
PAGE: Final = 100

ALREADY_THERE: Final = frozenset({81057, 81058})
"""The record already exists; an identical record already exists."""
NOT_THERE: Final = frozenset({81044})
LIMITED: Final = frozenset({971, 10429})
EXPLAINED: Final = {
    6003: "finds the API token malformed",
    6111: "finds the API token malformed",
    1000: "does not know the API token",
    9103: "does not know the API token",
    9106: "got no API token",
    9109: "does not let this API token do that, or not from this address",
    10000: "does not let this API token do that: it is wrong, expired or lacks a permission"
    " (it needs Zone:Read and DNS:Edit)",
    10001: "does not let this API token do that: it is wrong, expired or lacks a permission"
    " (it needs Zone:Read and DNS:Edit)",
    81045: "takes no more records in this zone: its quota is used up",
}
"""Error codes in words: https://developers.cloudflare.com/fundamentals/api/troubleshooting/."""


class _Problem(ApiModel):
    code: int
    message: str = ""


class _Pages(ApiModel):
    total_pages: int = 1


class _Zone(ApiModel):
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    name: str
    status: str


class _Record(ApiModel):
    id: Annotated[str, Field(pattern=r"^[0-9a-zA-Z]{1,64}$")]
    type: str
    name: str
    content: str


class _Envelope(ApiModel):
    success: bool = True
    errors: list[_Problem] | None = None


class _Zones(_Envelope):
    result: list[_Zone]


class _Records(_Envelope):
    result: list[_Record]
    result_info: _Pages = _Pages()


class Cloudflare:
    """The zones that an API token may edit."""

    def __init__(
        self, credentials: CloudflareCredentials, base_url: str, http: httpx2.AsyncClient
    ) -> None:
        self._api = Api("Cloudflare", base_url, http, (credentials.api_token,))
        self._headers = {
            "Authorization": f"Bearer {credentials.api_token}",
            "Content-Type": "application/json",
        }

    async def add(self, name: str, value: str) -> None:
        """Add a record of its own."""
        zone = await self._zone(name)
        if await self._ids(zone, name, value):
            return
        # Cloudflare's own form of a TXT record is quoted; what is not, it quotes, and warns.
        record = {"type": "TXT", "name": name, "content": f'"{value}"', "ttl": TTL_SECONDS}
        self._check(
            await self._call("POST", ("zones", zone, "dns_records"), content=record),
            passed=ALREADY_THERE,
        )

    async def remove(self, name: str, value: str) -> None:
        """Delete every record with the value."""
        zone = await self._zone(name)
        for record_id in await self._ids(zone, name, value):
            path = ("zones", zone, "dns_records", record_id)
            self._check(await self._call("DELETE", path), passed=NOT_THERE)

    async def _zone(self, name: str) -> str:
        """Return the id of the zone; one that is not delegated to Cloudflare is passed over."""
        but = ""
        for candidate in zone_candidates(name):
            zones = [zone for zone in await self._zones(candidate) if zone.name == candidate]
            for zone in zones:
                if zone.status == "active":
                    return zone.id
                but = f"; {candidate} is there, but not active"
        raise self._api.no_zone(name, but)

    async def _zones(self, name: str) -> list[_Zone]:
        reply = await self._call("GET", ("zones",), {"name": name, "per_page": "50"})
        self._check(reply)
        return reply.read(_Zones).result

    async def _ids(self, zone: str, name: str, value: str) -> list[str]:
        """Return the ids of the records with the value."""
        ids: list[str] = []
        query = {"type": "TXT", "name": name, "per_page": str(PAGE)}
        for page in range(1, MOST_PAGES + 1):
            path = ("zones", zone, "dns_records")
            reply = await self._call("GET", path, {**query, "page": str(page)})
            self._check(reply)
            records = reply.read(_Records)
            ids += (
                record.id
                for record in records.result
                if record.type == "TXT"
                and record.name.lower() == name
                and record.content.strip('"') == value
            )
            if page >= records.result_info.total_pages or not records.result:
                return ids
        raise self._api.too_many_pages()

    async def _call(
        self,
        method: str,
        path: tuple[str, ...],
        query: dict[str, str] | None = None,
        content: dict[str, object] | None = None,
    ) -> Reply:
        body = None if content is None else json_content(content)
        return await self._api.call(method, self._api.url(*path, query=query), self._headers, body)

    def _check(self, reply: Reply, passed: frozenset[int] = frozenset()) -> None:
        """Raise `DnsProviderError` for a failure of which no code is passed over."""
        envelope = reply.read(_Envelope) if reply.is_success else reply.read_error(_Envelope)
        if envelope is not None and envelope.success and reply.is_success:
            return
        problems = (envelope.errors if envelope else None) or []
        if not passed.isdisjoint(problem.code for problem in problems):
            return
        raise self._error(reply, problems)

    def _error(self, reply: Reply, problems: list[_Problem]) -> DnsProviderError:
        for problem in problems:
            if problem.code in LIMITED:
                return self._api.limited()
            if problem.code in EXPLAINED:
                return self._api.refused(EXPLAINED[problem.code], f"error {problem.code}")
        if not problems:
            return self._api.refused("refused it", f"status {reply.status}")
        return self._api.refused("refused it", f"error {problems[0].code}", problems[0].message)
