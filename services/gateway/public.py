"""The plain-HTTP port: what is public by nature, and nothing else."""

from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, FastAPI
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute

from contracts.status import StatusReport
from services.gateway.routes import DialectRoute


def public_api(
    report: Callable[[], Awaitable[StatusReport]], published: Sequence[BaseRoute] = ()
) -> FastAPI:
    """Return what answers there.

    How the platform is, it says in a word: details are on the operations port.
    """
    router = APIRouter(route_class=DialectRoute)

    @router.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @router.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> PlainTextResponse:
        if (await report()).ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", 503)

    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    api.router.routes.extend([*router.routes, *published])
    return api
