"""GoDaddy: the TXT records of a name are read and written as one set, without any condition.

Two who write at once can therefore take each other's values away. Whoever has written reads again
after a while, longer than others take from reading to writing, and writes again what is missing.
https://developer.godaddy.com/doc/endpoint/domains
"""

import asyncio
import random
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import httpx2
from pydantic import Field

from contracts.dns import GodaddyCredentials
from services.acme.dns.api import Api, ApiModel, Reply, json_content
from services.acme.dns.names import relative, zone_candidates
from services.acme.dns.provider import DnsProviderError

TTL_SECONDS: Final = 600
"""The lowest that the API takes."""
SETTLED_SECONDS: Final = 2.0
"""Others have written by then what they read before we wrote."""
ATTEMPTS: Final = 6
NO_ZONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY})
"""What is said of a name that is no domain of the account, or that can't be a domain at all."""


class _Record(ApiModel):
    data: str
    ttl: int = TTL_SECONDS


class _Problem(ApiModel):
    code: str
    message: str = ""


class _Limit(ApiModel):
    seconds: int = Field(alias="retryAfterSec")


def _wait_seconds(reply: Reply, _headers: Mapping[str, str]) -> float | None:
    limit = reply.read_error(_Limit)
    return limit.seconds if limit else None


class Godaddy:
    """The domains of the account that an API key belongs to."""

    def __init__(
        self, credentials: GodaddyCredentials, base_url: str, http: httpx2.AsyncClient
    ) -> None:
        secrets = (credentials.api_key, credentials.api_secret)
        self._api = Api("GoDaddy", base_url, http, secrets, _wait_seconds)
        self._headers = {
            "Authorization": f"sso-key {credentials.api_key}:{credentials.api_secret}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }

    async def add(self, name: str, value: str) -> None:
        """Write the set with the value, until it is seen to stay."""
        await self._settle(name, value, wanted=True)

    async def remove(self, name: str, value: str) -> None:
        """Write the set without the value, until it is seen to stay so."""
        await self._settle(name, value, wanted=False)

    async def _settle(self, name: str, value: str, *, wanted: bool) -> None:
        zone = await self._zone(name)
        for _ in range(ATTEMPTS):
            records = await self._read(zone, name)
            if any(record.data == value for record in records) == wanted:
                return
            others = [record for record in records if record.data != value]
            ours = [_Record(data=value)] if wanted else []
            await self._write(zone, name, [*others, *ours])
            await asyncio.sleep(SETTLED_SECONDS * random.uniform(1.0, 1.5))  # noqa: S311 - so that two who met part
        raise DnsProviderError(
            f"{self._api.provider}: others keep changing the records of {name}", transient=True
        )

    async def _zone(self, name: str) -> str:
        """Return the zone; those that are only hosted here are in no list of domains."""
        for candidate in zone_candidates(name):
            reply = await self._call("GET", candidate, "records", "NS")
            if reply.is_success:
                return candidate
            if reply.status not in NO_ZONE:
                raise self._error(reply)
        raise self._api.no_zone(name)

    async def _read(self, zone: str, name: str) -> list[_Record]:
        reply = await self._call("GET", zone, "records", "TXT", relative(name, zone))
        if reply.status == HTTPStatus.NOT_FOUND:
            return []
        if not reply.is_success:
            raise self._error(reply)
        # An empty one is what older programs leave, which could not delete.
        return [record for record in reply.read(list[_Record]) if record.data]

    async def _write(self, zone: str, name: str, records: list[_Record]) -> None:
        path = (zone, "records", "TXT", relative(name, zone))
        if records:
            content = json_content([record.model_dump() for record in records])
            reply = await self._call("PUT", *path, content=content)
        else:  # an empty set is refused
            reply = await self._call("DELETE", *path)
            if reply.status == HTTPStatus.NOT_FOUND:
                return
        if not reply.is_success:
            raise self._error(reply)

    async def _call(self, method: str, *path: str, content: bytes | None = None) -> Reply:
        url = self._api.url("v1", "domains", *path)
        return await self._api.call(method, url, self._headers, content)

    def _error(self, reply: Reply) -> DnsProviderError:
        problem = reply.read_error(_Problem)
        if problem is None:
            return self._api.refused("refused it", f"status {reply.status}")
        if reply.status == HTTPStatus.UNAUTHORIZED:
            return self._api.refused("does not know the API key and secret", problem.code)
        if reply.status == HTTPStatus.FORBIDDEN:
            return self._api.refused(
                "does not let this API key do that (its API is for accounts with ten domains or"
                " more, or with a plan for it)",
                problem.code,
            )
        return self._api.refused("refused it", problem.code, problem.message)
