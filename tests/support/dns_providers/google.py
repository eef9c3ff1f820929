"""Google Cloud DNS and the token endpoint: https://cloud.google.com/dns/docs/reference/rest/v1."""

import base64
import json
import secrets
import time
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.dns_providers.hosting import MemoryHosting, Zone

PROJECT = "project-1"
EMAIL = "dns@project-1.iam.gserviceaccount.com"
KEY_ID = "key-1"
SCOPE = "https://www.googleapis.com/auth/ndev.clouddns.readwrite"


def service_account(key: rsa.RSAPrivateKey) -> dict[str, str]:
    """Return a key file as Google makes it; its `token_uri` is a trap."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": KEY_ID,
        "private_key": pem,
        "client_email": EMAIL,
        "client_id": "1",
        "auth_uri": "https://elsewhere.test/auth",
        "token_uri": "https://elsewhere.test/token",
        "universe_domain": "googleapis.com",
    }


class GoogleApi:
    """A project that one service account may edit."""

    def __init__(self, hosting: MemoryHosting, key: rsa.RSAPublicKey) -> None:
        self._hosting = hosting
        self._key = key
        self._tokens: dict[str, float] = {}
        self.token_seconds = 3600
        self.page = 100
        """Zones on a page."""
        zone = f"/dns/v1/projects/{PROJECT}/managedZones"
        self.application = Starlette(
            routes=[
                Route("/token", self._token, methods=["POST"]),
                Route(zone, self._zones),
                Route(zone + "/{zone}/rrsets", self._sets),
                Route(zone + "/{zone}/changes", self._change, methods=["POST"]),
            ]
        )

    async def _token(self, request: Request) -> Response:
        async with request.form() as form:
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            assertion = str(form["assertion"])
        signed, _, signature = assertion.rpartition(".")
        header, claims = (json.loads(_decoded(part)) for part in signed.split("."))
        assert header == {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        now = time.time()
        if claims["iss"] != EMAIL:
            return _no_token("Invalid grant: account not found")
        if not (now - 60 < claims["iat"] <= now and claims["iat"] < claims["exp"] <= now + 3600):
            return _no_token("Invalid JWT: Token must be a short-lived token (60 minutes)")
        assert claims["scope"] == SCOPE
        assert claims["aud"] == str(request.url)
        try:
            self._key.verify(
                _decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return _no_token("Invalid JWT Signature.")
        token = secrets.token_urlsafe()
        self._tokens[token] = now + self.token_seconds
        kind, seconds = "Bearer", self.token_seconds
        content = {"access_token": token, "expires_in": seconds, "token_type": kind}
        return JSONResponse(content)

    def forget_tokens(self) -> None:
        """Let no token that was given be valid any more."""
        self._tokens.clear()

    async def _zones(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        wanted = request.query_params["dnsName"]
        zones = [zone for zone in self._hosting.zones.values() if f"{zone.name}." == wanted]
        first = int(request.query_params.get("pageToken", 0))
        shown = [
            {
                "kind": "dns#managedZone",
                "id": "1",
                "name": f"zone-{zone.id[:8]}",
                "dnsName": f"{zone.name}.",
                "visibility": "private" if zone.private else "public",
            }
            for zone in zones[first : first + self.page]
        ]
        content: dict[str, Any] = {"kind": "dns#managedZonesListResponse", "managedZones": shown}
        if first + self.page < len(zones):
            content["nextPageToken"] = str(first + self.page)
        return JSONResponse(content)

    async def _sets(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        name = request.query_params["name"]
        assert request.query_params["type"] == "TXT"
        found = _set(self._zone(request), name)
        return JSONResponse({"kind": "dns#list", "rrsets": [found] if found else []})

    async def _change(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        zone = self._zone(request)
        change = await request.json()
        deletions, additions = change.get("deletions", []), change.get("additions", [])
        gone = set()
        for index, old in enumerate(deletions):
            there = _set(zone, old["name"])
            what = f"entity.change.deletions[{index}]"
            if there is None:
                message = f"The '{what}' resource named '{old['name']} (TXT)' does not exist."
                return _failed(404, "notFound", message)
            if (there["ttl"], sorted(there["rrdatas"])) != (old["ttl"], sorted(old["rrdatas"])):
                return _failed(412, "conditionNotMet", f"Precondition not met for '{what}'")
            gone.add(old["name"])
        for index, new in enumerate(additions):
            if _set(zone, new["name"]) and new["name"] not in gone:
                what = f"entity.change.additions[{index}]"
                message = f"The resource '{what}' named '{new['name']} (TXT)' already exists"
                return _failed(409, "alreadyExists", message)
        for old in deletions:
            if old["name"] not in [new["name"] for new in additions]:
                self._hosting.replace(zone, old["name"].rstrip("."), [])
        for new in additions:
            records = [(value.strip('"'), new["ttl"]) for value in new["rrdatas"]]
            self._hosting.replace(zone, new["name"].rstrip("."), records)
        return JSONResponse({"kind": "dns#change", "id": "1", "status": "pending", **change})

    def _zone(self, request: Request) -> Zone:
        wanted = request.path_params["zone"].removeprefix("zone-")
        return next(zone for zone in self._hosting.zones.values() if zone.id.startswith(wanted))

    def _refusal(self, request: Request) -> Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token, 0) < time.time():
            message = "Request had invalid authentication credentials."
            return _failed(401, "authError", message, "UNAUTHENTICATED")
        return None


def _set(zone: Zone, name: str) -> dict[str, Any] | None:
    records = zone.records.get(name.rstrip("."))
    if not records:
        return None
    values = [f'"{record.value}"' for record in records]
    ttl = records[-1].ttl
    return {"kind": "dns#rrset", "name": name, "type": "TXT", "ttl": ttl, "rrdatas": values}


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _no_token(description: str) -> Response:
    content = {"error": "invalid_grant", "error_description": description}
    return JSONResponse(content, 400)


def _failed(status: int, reason: str, message: str, name: str = "") -> Response:
    error: dict[str, Any] = {
        "code": status,
        "message": message,
        "errors": [{"message": message, "domain": "global", "reason": reason}],
    }
    if name:
        error["status"] = name
    return JSONResponse({"error": error}, status)
