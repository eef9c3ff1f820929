"""Route 53: moto's, behind what it lacks.

moto keeps zones and record sets. It does not check signatures over a query, nor compare what a
DELETE takes away with what is there, as Route 53 does: both are done before it is asked.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from xml.etree import ElementTree as ET

import httpx2
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.route53.models import route53_backends
from moto.server import ThreadedMotoServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.dns import AwsCredentials
from tests.support.dns_providers.accounts import NOWHERE, Account, Opened, client
from tests.support.dns_providers.faults import Faulty, serving
from tests.support.dns_providers.hosting import Publish, nowhere
from tests.support.dns_providers.signatures import Signed
from tests.support.pebble import LOOPBACK

CHANGES = re.compile(r"/2013-04-01/hostedzone/([A-Z0-9]+)/rrset/?")
XMLNS = 'xmlns="https://route53.amazonaws.com/doc/2013-04-01/"'


@dataclass(frozen=True)
class Moto:
    """A running moto."""

    url: str

    def reset(self) -> None:
        """Forget all zones."""
        with httpx2.Client(trust_env=False) as http:
            http.post(f"{self.url}/moto-api/reset").raise_for_status()


@contextmanager
def moto() -> Iterator[Moto]:
    """Run moto until the block ends."""
    server = ThreadedMotoServer(LOOPBACK, 0, verbose=False)
    server.start()
    running = Moto("http://{}:{}".format(*server.get_host_and_port()))
    try:
        yield running
    finally:
        running.reset()
        server.stop()


class Route53Hosting:
    """The hosted zones of moto's account."""

    def __init__(self, publish: Publish = nowhere) -> None:
        self._backend = route53_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._publish = publish

    def host(self, name: str, *, private: bool = False) -> str:
        """Let there be a zone; return its id."""
        return str(self._backend.create_hosted_zone(f"{name}.", private).resource_id)

    def put(self, zone_id: str, name: str, value: str, ttl: int = 3600) -> None:
        """Add a record that is not ours."""
        there = self.read(zone_id, name)
        values = [*(there[1] if there else []), f'"{value}"']
        txt = {
            "Name": f"{name}.",
            "Type": "TXT",
            "TTL": ttl,
            "ResourceRecords": [{"Value": value} for value in values],
        }
        change = {"Action": "UPSERT", "ResourceRecordSet": txt}
        self._backend.change_resource_record_sets(zone_id, [change])
        self.tell(zone_id, name)

    def values(self, name: str) -> list[str]:
        """Return the values of a name in all zones, sorted."""
        found = (self.read(zone_id, name) for zone_id in self._backend.zones)
        return sorted(value.strip('"') for there in found if there for value in there[1])

    def zones_with(self, name: str) -> list[str]:
        """Return the ids of the zones that have records of a name."""
        return [zone_id for zone_id in self._backend.zones if self.read(zone_id, name)]

    def read(self, zone_id: str, name: str) -> tuple[int, list[str]] | None:
        """Return TTL and values of a record set."""
        for rrset in self._backend.get_hosted_zone(zone_id).rrsets:
            if rrset.name == f"{name}." and rrset.type == "TXT":
                return int(rrset.ttl or 0), list(rrset.records)
        return None

    def tell(self, zone_id: str, name: str) -> None:
        """Let everybody see what is in a zone."""
        if not self._backend.get_hosted_zone(zone_id).private_zone:
            there = self.read(zone_id, name)
            self._publish(name, [value.strip('"') for value in there[1]] if there else [])


class Route53Api:
    """Route 53 at an address of its own; what it does not say itself comes from moto."""

    def __init__(
        self,
        hosting: Route53Hosting,
        credentials: AwsCredentials,
        moto_url: str,
        http: httpx2.AsyncClient,
    ) -> None:
        self._hosting = hosting
        self._http = http
        self._credentials = credentials
        self._moto_url = moto_url
        self._one_at_a_time = asyncio.Lock()
        methods = ["GET", "POST"]
        self.application = Starlette(routes=[Route("/{path:path}", self._pass, methods=methods)])

    async def _pass(self, request: Request) -> Response:
        content = await request.body()
        if problem := self._signed(request, content).problem(
            self._credentials.access_key_id,
            self._credentials.secret_access_key,
            "us-east-1",  # wherever the account's other things are
            "route53",
        ):
            return _refused(403, problem)
        changed = CHANGES.fullmatch(request.url.path)
        if request.method != "POST" or changed is None:
            return await self._forward(request, content)
        zone_id, batch = changed[1], ET.fromstring(content)  # noqa: S314 - we made it
        changes = {_text(change, "Action"): change for change in batch.iter(_tag("Change"))}
        name = _text(batch, "Name").rstrip(".")
        async with self._one_at_a_time:
            there = self._hosting.read(zone_id, name)
            if "DELETE" in changes and there != _txt(changes["DELETE"]):
                return _invalid(f"Tried to delete [name='{name}.'] but it was not found")
            if "DELETE" not in changes and there is not None:
                return _invalid(f"Tried to create [name='{name}.'] but it already exists")
            if len(changes) > 1:  # moto does not look at them one after the other
                next(batch.iter(_tag("Changes"))).remove(changes["DELETE"])
                next(changes["CREATE"].iter(_tag("Action"))).text = "UPSERT"
            response = await self._forward(request, ET.tostring(batch))
            if response.status_code == 200:
                self._hosting.tell(zone_id, name)
            return response

    def _signed(self, request: Request, content: bytes) -> Signed:
        headers, url = dict(request.headers), request.url
        return Signed(request.method, url.path, url.query, headers, content)

    async def _forward(self, request: Request, content: bytes) -> Response:
        target = f"{self._moto_url}{request.url.path}?{request.url.query}".rstrip("?")
        by = {"Authorization": request.headers["Authorization"]}  # moto reads the service in it
        got = await self._http.request(request.method, target, headers=by, content=content or None)
        return Response(got.content, got.status_code, media_type="text/xml")


def route53(moto: Moto) -> Opened:
    """Return what runs Route 53 in front of moto."""

    @asynccontextmanager
    async def opened(publish: Publish = nowhere) -> AsyncIterator[Account]:
        moto.reset()
        hosting = Route53Hosting(publish)
        credentials = AwsCredentials(
            access_key_id="AKIAEXAMPLE", secret_access_key="aws-secret-1", region="eu-central-1"
        )
        wrong = credentials.model_copy(update={"secret_access_key": "another-secret"})
        secrets = (credentials.secret_access_key, "another-secret")
        async with client() as http:
            api = Route53Api(hosting, credentials, moto.url, http)
            server = Faulty(api.application)
            async with serving(server) as url:
                endpoints = replace(NOWHERE, aws_base_url=url)
                yield Account(hosting, api, server, endpoints, credentials, wrong, secrets, http)

    return opened


def _txt(change: ET.Element) -> tuple[int, list[str]]:
    values = [value.text or "" for value in change.iter(_tag("Value"))]
    return int(_text(change, "TTL")), values


def _text(element: ET.Element, name: str) -> str:
    return next(element.iter(_tag(name))).text or ""


def _tag(name: str) -> str:
    return f"{{https://route53.amazonaws.com/doc/2013-04-01/}}{name}"


def _refused(status: int, code: str) -> Response:
    content = (
        f'<?xml version="1.0"?><ErrorResponse {XMLNS}><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{code}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
    return Response(content, status, media_type="text/xml")


def _invalid(message: str) -> Response:
    content = (
        f'<?xml version="1.0"?><InvalidChangeBatch {XMLNS}><Messages><Message>{message}</Message>'
        "</Messages><RequestId>1</RequestId></InvalidChangeBatch>"
    )
    return Response(content, 400, media_type="text/xml")
