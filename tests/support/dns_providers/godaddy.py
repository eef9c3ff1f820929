"""GoDaddy's API: https://developer.godaddy.com/doc/endpoint/domains."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.dns_providers.hosting import MemoryHosting, Zone


class GodaddyApi:
    """An account with one API key. Record sets are read and replaced, without any condition."""

    def __init__(self, hosting: MemoryHosting, key: str, secret: str) -> None:
        self._hosting = hosting
        self._credentials = f"{key}:{secret}"
        txt = "/v1/domains/{zone}/records/TXT/{name}"
        self.application = Starlette(
            routes=[
                Route("/v1/domains/{zone}/records/NS", self._name_servers),
                Route(txt, self._read, methods=["GET"]),
                Route(txt, self._replace, methods=["PUT"]),
                Route(txt, self._delete, methods=["DELETE"]),
            ]
        )

    async def _name_servers(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if self._zone(request) is None:
            if request.path_params["zone"].startswith("_"):
                return _refused(422, "INVALID_BODY", "Request body doesn't fulfill schema")
            message = "The given domain is not registered, or does not have a zone file"
            return _refused(404, "UNKNOWN_DOMAIN", message)
        record = {"data": "ns01.domaincontrol.com", "name": "@", "ttl": 3600, "type": "NS"}
        return JSONResponse([record])

    async def _read(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        zone, name = self._place(request)
        shown = [
            {"data": r.value, "name": request.path_params["name"], "ttl": r.ttl, "type": "TXT"}
            for r in zone.records.get(name, ())
        ]
        return JSONResponse(shown)

    async def _replace(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        zone, name = self._place(request)
        wanted = await request.json()
        if not wanted:
            return _refused(422, "INVALID_BODY", "Request body doesn't fulfill schema")
        if any(record["ttl"] < 600 for record in wanted):
            return _refused(422, "INVALID_BODY", "ttl must be greater than or equal to 600")
        self._hosting.replace(zone, name, [(record["data"], record["ttl"]) for record in wanted])
        return Response(status_code=200)

    async def _delete(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        zone, name = self._place(request)
        if not zone.records.get(name):
            return _refused(404, "NOT_FOUND", "The resource was not found")
        self._hosting.replace(zone, name, [])
        return Response(status_code=204)

    def _zone(self, request: Request) -> Zone | None:
        return next(iter(self._hosting.named(request.path_params["zone"])), None)

    def _place(self, request: Request) -> tuple[Zone, str]:
        zone, name = self._zone(request), request.path_params["name"]
        assert zone is not None
        return zone, zone.name if name == "@" else f"{name}.{zone.name}"

    def _refusal(self, request: Request) -> Response | None:
        if request.headers.get("Authorization") != f"sso-key {self._credentials}":
            return _refused(401, "UNABLE_TO_AUTHENTICATE", "Unauthorized : Could not authenticate")
        return None


def _refused(status: int, code: str, message: str) -> Response:
    return JSONResponse({"code": code, "message": message}, status)
