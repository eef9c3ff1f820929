"""DigitalOcean: each TXT record is an object of its own, so writers never meet.

https://docs.digitalocean.com/reference/api/digitalocean/#tag/Domain-Records
"""

import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import httpx2

from contracts.dns import DigitaloceanCredentials
from services.acme.dns.api import MOST_PAGES, Api, ApiModel, Reply, json_content
from services.acme.dns.names import relative, zone_candidates
from services.acme.dns.provider import DnsProviderError

TTL_SECONDS: Final = 30
"""The lowest that the API takes."""
PAGE: Final = 200
"""The largest that the API gives."""
RESET: Final = re.compile(r"[0-9]{1,12}")
"""A moment in Unix seconds."""


class _Record(ApiModel):
    id: int
    type: str
    name: str
    data: str


class _Pages(ApiModel):
    next: str | None = None


class _Links(ApiModel):
    pages: _Pages | None = None


class _Records(ApiModel):
    domain_records: list[_Record]
    links: _Links = _Links()


class _Problem(ApiModel):
    id: str
    message: str = ""


class _Domain(ApiModel):
    name: str


class _OneDomain(ApiModel):
    domain: _Domain


def _wait_seconds(_reply: Reply, headers: Mapping[str, str]) -> float | None:
    """Return what is left until the moment at which the API counts anew."""
    reset = headers.get("RateLimit-Reset", "")
    return float(reset) - time.time() if RESET.fullmatch(reset) else None


class Digitalocean:
    """The domains that an API token may edit."""

    def __init__(
        self, credentials: DigitaloceanCredentials, base_url: str, http: httpx2.AsyncClient
    ) -> None:
        secrets = (credentials.api_token,)
        self._api = Api("DigitalOcean", base_url, http, secrets, _wait_seconds)
        self._headers = {
            "Authorization": f"Bearer {credentials.api_token}",
            "Content-Type": "application/json",
        }

    async def add(self, name: str, value: str) -> None:
        """Add a record of its own."""
        zone = await self._zone(name)
        if await self._ids(zone, name, value):
            return
        record = {
            "type": "TXT",
            "name": relative(name, zone),
            "data": value,
            "ttl": TTL_SECONDS,
        }
        reply = await self._call("POST", "domains", zone, "records", content=record)
        if not reply.is_success:
            raise self._error(reply)

    async def remove(self, name: str, value: str) -> None:
        """Delete every record with the value."""
        zone = await self._zone(name)
        for record_id in await self._ids(zone, name, value):
            reply = await self._call("DELETE", "domains", zone, "records", str(record_id))
            if not reply.is_success and reply.status != HTTPStatus.NOT_FOUND:
                raise self._error(reply)

    async def _zone(self, name: str) -> str:
        for candidate in zone_candidates(name):
            reply = await self._call("GET", "domains", candidate)
            if reply.status == HTTPStatus.NOT_FOUND:
                continue
            if not reply.is_success:
                raise self._error(reply)
            if reply.read(_OneDomain).domain.name != candidate:
                raise reply.malformed()
            return candidate
        raise self._api.no_zone(name)

    async def _ids(self, zone: str, name: str, value: str) -> list[int]:
        """Return the ids of the records with the value."""
        ids: list[int] = []
        query = {"type": "TXT", "name": name, "per_page": str(PAGE)}
        for page in range(1, MOST_PAGES + 1):
            asked = {**query, "page": str(page)}
            reply = await self._call("GET", "domains", zone, "records", query=asked)
            if not reply.is_success:
                raise self._error(reply)
            records = reply.read(_Records)
            ids += (
                record.id
                for record in records.domain_records
                if record.type == "TXT"
                and record.name.lower() == relative(name, zone)
                and record.data.strip('"') == value
            )
            pages = records.links.pages
            if pages is None or pages.next is None or not records.domain_records:
                return ids
        raise self._api.too_many_pages()

    async def _call(
        self,
        method: str,
        *path: str,
        query: dict[str, str] | None = None,
        content: dict[str, object] | None = None,
    ) -> Reply:
        body = None if content is None else json_content(content)
        url = self._api.url("v2", *path, query=query)
        return await self._api.call(method, url, self._headers, body)

    def _error(self, reply: Reply) -> DnsProviderError:
        problem = reply.read_error(_Problem)
        said = problem.message if problem else f"status {reply.status}"
        if reply.status == HTTPStatus.UNAUTHORIZED:
            return self._api.refused("does not know the API token, or it has expired")
        if reply.status == HTTPStatus.FORBIDDEN:
            return self._api.refused(
                "does not let this API token do that (it needs to read, create and delete domains)"
            )
        return self._api.refused("refused it", said)
