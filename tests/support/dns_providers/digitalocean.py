"""DigitalOcean's API: https://docs.digitalocean.com/reference/api/digitalocean/#tag/Domains."""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.dns_providers.hosting import MemoryHosting, Record, Zone


class DigitaloceanApi:
    """An account with one API token. Links of pages lead to `links_to`, which nobody follows."""

    def __init__(self, hosting: MemoryHosting, token: str) -> None:
        self._hosting = hosting
        self._token = token
        self.links_to = "https://elsewhere.test"
        records = "/v2/domains/{zone}/records"
        self.application = Starlette(
            routes=[
                Route("/v2/domains/{zone}", self._domain),
                Route(records, self._records, methods=["GET"]),
                Route(records, self._create, methods=["POST"]),
                Route(records + "/{record:int}", self._delete, methods=["DELETE"]),
            ]
        )

    async def _domain(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        zone = self._zone(request)
        if zone is None:
            return _not_found()
        return JSONResponse({"domain": {"name": zone.name, "ttl": 1800, "zone_file": "..."}})

    async def _records(self, request: Request) -> Response:
        zone = self._zone(request)
        if refusal := self._refusal(request):
            return refusal
        assert zone is not None
        asked = request.query_params
        page, per_page = int(asked.get("page", 1)), min(int(asked.get("per_page", 20)), 200)
        everything = [
            _shown(zone, name, record)
            for name, records in zone.records.items()
            for record in records
            if name == asked.get("name", name)  # it is asked for by its whole name
        ]
        shown = everything[(page - 1) * per_page : page * per_page]
        more = page * per_page < len(everything)
        pages = {"next": f"{self.links_to}/v2/domains?page={page + 1}"} if more else {}
        content = {
            "domain_records": shown,
            "links": {"pages": pages} if more else {},
            "meta": {"total": len(everything)},
        }
        return JSONResponse(content)

    async def _create(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        zone = self._zone(request)
        assert zone is not None
        wanted = await request.json()
        assert wanted["type"] == "TXT"
        if wanted["ttl"] < 30:
            return _refused(422, "unprocessable_entity", "Ttl must be greater than or equal to 30.")
        name = zone.name if wanted["name"] == "@" else f"{wanted['name']}.{zone.name}"
        record = self._hosting.add(zone, name, wanted["data"], wanted["ttl"])
        return JSONResponse({"domain_record": _shown(zone, name, record)}, 201)

    async def _delete(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        zone = self._zone(request)
        assert zone is not None
        if not self._hosting.delete(zone, request.path_params["record"]):
            return _not_found()
        return Response(status_code=204)

    def _zone(self, request: Request) -> Zone | None:
        return next(iter(self._hosting.named(request.path_params["zone"])), None)

    def _refusal(self, request: Request) -> Response | None:
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            return _refused(401, "Unauthorized", "Unable to authenticate you")
        return None


def _shown(zone: Zone, name: str, record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "type": "TXT",
        "name": "@" if name == zone.name else name.removesuffix(f".{zone.name}"),
        "data": record.value,
        "priority": None,
        "port": None,
        "ttl": record.ttl,
        "weight": None,
        "flags": None,
        "tag": None,
    }


def _not_found() -> Response:
    return _refused(404, "not_found", "The resource you were accessing could not be found.")


def _refused(status: int, name: str, message: str) -> Response:
    request_id = "4d9d8375-3c56-4925-a3e7-eb137fed17e9"
    return JSONResponse({"id": name, "message": message, "request_id": request_id}, status)
