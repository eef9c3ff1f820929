"""Cloudflare's API: https://developers.cloudflare.com/api/resources/dns/."""

from math import ceil
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.dns_providers.hosting import MemoryHosting, Record, Zone


class CloudflareApi:
    """An account with one API token."""

    def __init__(self, hosting: MemoryHosting, token: str) -> None:
        self._hosting = hosting
        self._token = token
        records = "/client/v4/zones/{zone}/dns_records"
        self.application = Starlette(
            routes=[
                Route("/client/v4/zones", self._zones),
                Route(records, self._records, methods=["GET"]),
                Route(records, self._create, methods=["POST"]),
                Route(records + "/{record}", self._delete, methods=["DELETE"]),
            ]
        )

    async def _zones(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        found = self._hosting.named(request.query_params["name"])
        shown = [
            {
                "id": zone.id,
                "name": zone.name,
                "status": "active" if zone.active else "pending",
                "type": "full",
                "paused": False,
            }
            for zone in found
        ]
        return _listed(shown, request)

    async def _records(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        zone = self._hosting.zones[request.path_params["zone"]]
        name = request.query_params["name"]
        shown = [_shown(zone, name, record) for record in zone.records.get(name, ())]
        return _listed(shown, request)

    async def _create(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        zone = self._hosting.zones[request.path_params["zone"]]
        wanted = await request.json()
        assert wanted["type"] == "TXT"
        name, value = wanted["name"], wanted["content"].strip('"')
        assert name == zone.name or name.endswith(f".{zone.name}"), name
        if wanted["ttl"] != 1 and not 60 <= wanted["ttl"] <= 86_400:
            return _refused(400, 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1.")
        if value in (record.value for record in zone.records.get(name, ())):
            return _refused(400, 81058, "An identical record already exists.")
        record = self._hosting.add(zone, name, value, wanted["ttl"])
        return _answered(_shown(zone, name, record))

    async def _delete(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        zone = self._hosting.zones[request.path_params["zone"]]
        record = request.path_params["record"]
        if not self._hosting.delete(zone, int(record, 16)):
            return _refused(404, 81044, "Record does not exist.")
        return _answered({"id": record})

    def _refusal(self, request: Request) -> Response | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or len(token) < 8:
            return _refused(400, 6003, "Invalid request headers")
        if token != self._token:
            return _refused(403, 9109, f"Invalid access token {token}")
        return None


def _shown(zone: Zone, name: str, record: Record) -> dict[str, Any]:
    return {
        "id": f"{record.id:032x}",
        "zone_id": zone.id,
        "zone_name": zone.name,
        "name": name,
        "type": "TXT",
        "content": f'"{record.value}"',
        "proxiable": False,
        "proxied": False,
        "ttl": record.ttl,
        "settings": {},
        "meta": {},
        "comment": None,
        "tags": [],
    }


def _answered(result: object) -> Response:
    envelope = {"result": result, "success": True, "errors": [], "messages": []}
    return JSONResponse(envelope)


def _listed(everything: list[dict[str, Any]], request: Request) -> Response:
    page = int(request.query_params.get("page", 1))
    per_page = int(request.query_params.get("per_page", 20))
    shown = everything[(page - 1) * per_page : page * per_page]
    envelope = {
        "result": shown,
        "result_info": {
            "page": page,
            "per_page": per_page,
            "count": len(shown),
            "total_count": len(everything),
            "total_pages": ceil(len(everything) / per_page),
        },
        "success": True,
        "errors": [],
        "messages": [],
    }
    return JSONResponse(envelope)


def _refused(status: int, code: int, message: str) -> Response:
    envelope = {
        "result": None,
        "success": False,
        "errors": [{"code": code, "message": message}],
        "messages": [],
    }
    return JSONResponse(envelope, status)
