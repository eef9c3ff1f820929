"""Google Cloud DNS, with a service account's key.

A change takes deletions only of what is exactly there, and additions only of what is not: the old
set and the new one in a change are a comparison and an exchange.
https://cloud.google.com/dns/docs/reference/rest/v1/changes/create
https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

import asyncio
import base64
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import urlencode

import httpx2
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import Field

from contracts.dns import GoogleCredentials, GoogleServiceAccount
from services.acme.dns.api import MOST_PAGES, Api, ApiModel, Reply, json_content
from services.acme.dns.provider import DnsProviderError
from services.acme.dns.record_sets import ChangedError, RecordSets, TxtSet

SCOPE: Final = "https://www.googleapis.com/auth/ndev.clouddns.readwrite"
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""RFC 7523 section 2.1."""
ASSERTED_SECONDS: Final = 3600
"""The longest that Google takes."""
MARGIN_SECONDS: Final = 60
"""Before a token's end, in which it is not used any more."""
LARGEST_KEY_BITS: Final = 4096
"""Google makes keys of 2048; larger ones only cost time."""

LIMITED: Final = frozenset(
    {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RESOURCE_EXHAUSTED"}
)
CHANGED: Final = frozenset(
    {HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.NOT_FOUND}
)
"""What is added is there already; what is deleted is another by now, or is not there any more."""

EXPLAINED: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "does not accept the access token any more",
    HTTPStatus.FORBIDDEN: "does not let this service account do that (it needs roles/dns.admin)",
    HTTPStatus.NOT_FOUND: "does not find what it is asked for",
}

Text = Annotated[str, Field(pattern=r"^[\x21-\x7e]+$", max_length=8192)]


class _Token(ApiModel):
    access_token: Text = Field(repr=False)
    expires_in: int = Field(ge=0, le=86_400)


class _TokenProblem(ApiModel):
    error: str
    error_description: str = ""


class _Zone(ApiModel):
    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")]
    dns_name: str = Field(alias="dnsName")
    visibility: str = "public"


class _Zones(ApiModel):
    zones: list[_Zone] = Field(default=[], alias="managedZones")
    next_page: str | None = Field(default=None, alias="nextPageToken", max_length=4096)


class _Set(ApiModel):
    name: str
    type: str
    ttl: int
    values: list[str] = Field(default=[], alias="rrdatas")
    routing: dict[str, object] | None = Field(default=None, alias="routingPolicy")


class _Sets(ApiModel):
    sets: list[_Set] = Field(default=[], alias="rrsets")


class _Reason(ApiModel):
    reason: str = ""


class _Failure(ApiModel):
    message: str = ""
    status: str = ""
    errors: list[_Reason] = Field(default=[])


class _Problem(ApiModel):
    error: _Failure


class ServiceAccountTokens:
    """Access tokens of a service account, each used until it ends.

    They come from the address in the settings, never from the one in the account's file.
    """

    def __init__(
        self, account: GoogleServiceAccount, token_url: str, http: httpx2.AsyncClient
    ) -> None:
        lines = account.private_key.splitlines()
        secrets = [line for line in lines if not line.startswith("-")]
        self._api = Api("Google", token_url, http, secrets)
        self._account = account
        self._token_url = token_url
        self._asking = asyncio.Lock()
        self._token = ""
        self._ends = 0.0

    async def get(self) -> str:
        """Return a token that is valid. Raises `DnsProviderError`."""
        async with self._asking:
            if time.monotonic() >= self._ends:
                await self._ask()
            return self._token

    def forget(self) -> None:
        """Ask for a new token next time."""
        self._ends = 0.0

    async def _ask(self) -> None:
        try:
            assertion = await asyncio.to_thread(self._assertion)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise self._api.refused(
                "credentials: the service account's private_key is no RSA key that can be read"
            ) from None
        content = urlencode({"grant_type": GRANT, "assertion": assertion}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = await self._api.call("POST", self._api.url(), headers, content)
        if not reply.is_success:
            raise self._error(reply)
        token = reply.read(_Token)
        self._token = token.access_token
        self._ends = time.monotonic() + token.expires_in - MARGIN_SECONDS

    def _assertion(self) -> str:
        """Return a signed JWT (RFC 7523 section 3). Raises as `load_pem_private_key`."""
        account, now = self._account, int(time.time())
        key = load_pem_private_key(account.private_key.encode(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size > LARGEST_KEY_BITS:
            raise ValueError("an RSA key")
        header = {"alg": "RS256", "typ": "JWT"}
        if account.private_key_id is not None:
            header["kid"] = account.private_key_id
        claims = {
            "iss": account.client_email,
            "scope": SCOPE,
            "aud": self._token_url,
            "iat": now,
            "exp": now + ASSERTED_SECONDS,
        }
        signed = f"{_base64url(json_content(header))}.{_base64url(json_content(claims))}"
        signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"

    def _error(self, reply: Reply) -> DnsProviderError:
        problem = reply.read_error(_TokenProblem)
        if problem is None:
            return self._api.refused("refused the service account", f"status {reply.status}")
        return self._api.refused(
            "refused the service account", problem.error, problem.error_description
        )


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class GoogleCloudDns(RecordSets):
    """The public managed zones of a project."""

    def __init__(
        self,
        credentials: GoogleCredentials,
        base_url: str,
        token_url: str,
        http: httpx2.AsyncClient,
    ) -> None:
        self._api = Api("Google Cloud DNS", base_url, http, ())
        self._tokens = ServiceAccountTokens(credentials.credentials, token_url, http)
        self._project = credentials.project_id

    async def public_zones(self, name: str) -> list[str]:
        """Return the names of the public zones for a domain."""
        names: list[str] = []
        query = {"dnsName": f"{name}."}
        for _ in range(MOST_PAGES):
            reply = await self._call("GET", "managedZones", query=query)
            page = reply.read(_Zones)
            names += (
                zone.name
                for zone in page.zones
                if zone.dns_name.lower() == f"{name}." and zone.visibility == "public"
            )
            if not page.next_page:
                return names
            query["pageToken"] = page.next_page
        raise self._api.too_many_pages()

    async def read(self, zone: str, name: str) -> TxtSet | None:
        """Return the set."""
        query = {"name": f"{name}.", "type": "TXT"}
        reply = await self._call("GET", "managedZones", zone, "rrsets", query=query)
        for found in reply.read(_Sets).sets:
            if found.name.lower() == f"{name}." and found.type == "TXT":
                if found.routing is not None:
                    raise self._api.refused(f"has a routing policy for the records of {name}")
                return TxtSet(found.ttl, tuple(found.values))
        return None

    async def replace(self, zone: str, name: str, old: TxtSet | None, new: TxtSet | None) -> None:
        """Compare and exchange; Google says pending, and its servers follow within a minute."""
        change = {
            kind: [{"name": f"{name}.", "type": "TXT", "ttl": txt.ttl, "rrdatas": list(txt.values)}]
            for kind, txt in (("deletions", old), ("additions", new))
            if txt is not None
        }
        await self._call("POST", "managedZones", zone, "changes", content=change)

    async def _call(
        self,
        method: str,
        *path: str,
        query: dict[str, str] | None = None,
        content: Mapping[str, object] | None = None,
    ) -> Reply:
        """Return a success. Raises `ChangedError` and `DnsProviderError`."""
        token = await self._tokens.get()
        self._api.hide(token)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        url = self._api.url("projects", self._project, *path, query=query)
        body = None if content is None else json_content(content)
        reply = await self._api.call(method, url, headers, body)
        if reply.is_success:
            return reply
        if content is not None and reply.status in CHANGED:
            problem = reply.read_error(_Problem)
            raise ChangedError(self._api.plain(problem.error.message) if problem else reply.status)
        if reply.status == HTTPStatus.UNAUTHORIZED:
            self._tokens.forget()
        raise self._error(reply)

    def _error(self, reply: Reply) -> DnsProviderError:
        problem = reply.read_error(_Problem)
        if problem is None:
            return self._api.refused("refused it", f"status {reply.status}")
        reasons = {problem.error.status, *(error.reason for error in problem.error.errors)}
        if not LIMITED.isdisjoint(reasons):
            return self._api.limited()
        if "accessNotConfigured" in reasons:
            return self._api.refused(f"is not switched on in the project {self._project}")
        what = EXPLAINED.get(reply.status, "refused it")
        return self._api.refused(f"{what}, in the project {self._project}", problem.error.message)
