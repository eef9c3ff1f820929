"""Route 53, with requests that botocore signs (SigV4) and that nothing else of it sends.

A change batch is one transaction, and DELETE takes only what is exactly there: the old set and the
new one in a batch are a comparison and an exchange, which UPSERT alone is not.
https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import httpx2
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]  # it has no types
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]  # it has no types
from botocore.credentials import Credentials  # type: ignore[import-untyped]  # it has no types

from contracts.dns import AwsCredentials
from services.acme.dns.api import MOST_PAGES, Api, Reply
from services.acme.dns.provider import DnsProviderError
from services.acme.dns.record_sets import ChangedError, RecordSets, TxtSet

VERSION: Final = "2013-04-01"
NAMESPACE: Final = f"https://route53.amazonaws.com/doc/{VERSION}/"
PAGE: Final = 100
TTL: Final = re.compile(r"([0-9]{1,10})")
ZONE_ID: Final = re.compile(r"(?:/hostedzone/)?([A-Z0-9]{1,32})")

HOME_REGIONS: Final = {"cn-": "cn-northwest-1", "us-gov-": "us-gov-west-1"}
"""Route 53 is one for all regions of a partition, and signatures name the region that it is in:
https://docs.aws.amazon.com/general/latest/gr/r53.html."""
HOME_REGION: Final = "us-east-1"

LIMITED: Final = frozenset({"Throttling", "ThrottlingException", "PriorRequestNotComplete"})
CHANGED: Final = frozenset({"InvalidChangeBatch"})
EXPLAINED: Final = {
    "InvalidClientTokenId": "does not know the access key",
    "UnrecognizedClientException": "does not know the access key",
    "InvalidAccessKeyId": "does not know the access key",
    "SignatureDoesNotMatch": "does not accept the signature: the secret access key is wrong, or"
    " this machine's clock",
    "RequestExpired": "does not accept the signature: this machine's clock is wrong",
    "IncompleteSignature": "finds the access key malformed",
    "MissingAuthenticationToken": "finds the access key malformed",
    "OptInRequired": "is not part of what the account has signed up for",
    "AccessDenied": "does not let this access key do that (it needs"
    " route53:ListHostedZonesByName, route53:ListResourceRecordSets and"
    " route53:ChangeResourceRecordSets)",
    "AccessDeniedException": "does not let this access key do that",
    "NoSuchHostedZone": "does not have the zone any more",
}


class Route53(RecordSets):
    """The public hosted zones that an access key may edit."""

    def __init__(
        self, credentials: AwsCredentials, base_url: str, http: httpx2.AsyncClient
    ) -> None:
        secrets = (credentials.secret_access_key, credentials.access_key_id)
        self._api = Api("Route 53", base_url, http, secrets)
        keys = Credentials(credentials.access_key_id, credentials.secret_access_key)
        self._signer = SigV4Auth(keys, "route53", home_region(credentials.region))

    async def public_zones(self, name: str) -> list[str]:
        """Return the ids of the public zones with a name; the API lists from that name on."""
        ids: list[str] = []
        query = {"dnsname": name, "maxitems": str(PAGE)}
        for _ in range(MOST_PAGES):
            page = await self._get(("hostedzonesbyname",), query)
            for zone in page.all("HostedZones/HostedZone"):
                if zone.name("Name") != name:
                    return ids
                if zone.text("Config/PrivateZone") != "true":
                    ids.append(zone.match("Id", ZONE_ID))
            if page.name("NextDNSName") != name:
                return ids
            query["hostedzoneid"] = page.match("NextHostedZoneId", ZONE_ID)
        raise self._api.too_many_pages()

    async def read(self, zone: str, name: str) -> TxtSet | None:
        """Return the set; the API lists from that name and type on."""
        query = {"name": name, "type": "TXT", "maxitems": "1"}
        page = await self._get(("hostedzone", zone, "rrset"), query)
        for found in page.all("ResourceRecordSets/ResourceRecordSet"):
            if found.name("Name") != name or found.text("Type") != "TXT":
                return None
            if found.text("SetIdentifier"):
                raise self._api.refused(f"has a routing policy for the records of {name}")
            values = (record.text("Value") for record in found.all("ResourceRecords/*"))
            return TxtSet(int(found.match("TTL", TTL)), tuple(values))
        return None

    async def replace(self, zone: str, name: str, old: TxtSet | None, new: TxtSet | None) -> None:
        """Compare and exchange; Route 53 says PENDING, and its servers follow within a minute."""
        changes = [("DELETE", old), ("CREATE", new)]
        said = "".join(_change(action, name, txt) for action, txt in changes if txt is not None)
        content = (
            f'<?xml version="1.0" encoding="UTF-8"?>'
            f'<ChangeResourceRecordSetsRequest xmlns="{NAMESPACE}"><ChangeBatch>'
            f"<Changes>{said}</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
        )
        url = self._api.url(VERSION, "hostedzone", zone, "rrset", "")
        reply = await self._call("POST", url, content.encode())
        if not reply.is_success:
            problem = _Problem.of(reply)
            if problem.code in CHANGED:
                raise ChangedError(self._api.plain(problem.said))
            raise self._error(problem)

    async def _get(self, path: tuple[str, ...], query: dict[str, str]) -> "_Xml":
        reply = await self._call("GET", self._api.url(VERSION, *path, query=query))
        if not reply.is_success:
            raise self._error(_Problem.of(reply))
        return _Xml.parse(reply)

    async def _call(self, method: str, url: str, content: bytes | None = None) -> Reply:
        headers = {} if content is None else {"Content-Type": "text/xml"}
        request = AWSRequest(method=method, url=url, data=content or b"", headers=headers)
        self._signer.add_auth(request)
        return await self._api.call(method, url, dict(request.headers.items()), content)

    def _error(self, problem: "_Problem") -> DnsProviderError:
        if problem.code in LIMITED:
            return self._api.limited()
        if problem.code in EXPLAINED:
            return self._api.refused(EXPLAINED[problem.code], problem.code)
        return self._api.refused("refused it", problem.code, problem.said)


def home_region(region: str) -> str:
    """Return the region of Route 53 in the partition of an account's region."""
    starts = (home for start, home in HOME_REGIONS.items() if region.startswith(start))
    return next(starts, HOME_REGION)


def _change(action: str, name: str, txt: TxtSet) -> str:
    records = "".join(
        f"<ResourceRecord><Value>{escape(value)}</Value></ResourceRecord>" for value in txt.values
    )
    return (
        f"<Change><Action>{action}</Action><ResourceRecordSet><Name>{name}.</Name>"
        f"<Type>TXT</Type><TTL>{txt.ttl}</TTL><ResourceRecords>{records}</ResourceRecords>"
        "</ResourceRecordSet></Change>"
    )


@dataclass(frozen=True, slots=True)
class _Xml:
    """An element of a reply, and ways to what is in it. Paths leave the namespace out."""

    reply: Reply
    element: ET.Element

    @classmethod
    def parse(cls, reply: Reply) -> "_Xml":
        """Return the root. Raises `DnsProviderError`."""
        try:
            text = reply.body.decode()
            if "<!" in text:  # no DTD, so no entities: the API has none
                raise reply.malformed()
            return cls(reply, ET.fromstring(text))  # noqa: S314 - without entities
        except (UnicodeDecodeError, ET.ParseError):
            raise reply.malformed() from None

    @property
    def kind(self) -> str:
        """Return the element's own name."""
        return self.element.tag.rpartition("}")[2]

    def all(self, path: str) -> Iterator["_Xml"]:
        """Yield the elements below a path."""
        for element in self.element.iterfind(_anywhere(path)):
            yield _Xml(self.reply, element)

    def text(self, path: str) -> str:
        """Return the text of an element; nothing where there is none."""
        return self.element.findtext(_anywhere(path), "")

    def name(self, path: str) -> str:
        """Return a DNS name in lower case, without its final dot."""
        return self.text(path).removesuffix(".").lower()

    def match(self, path: str, pattern: re.Pattern[str]) -> str:
        """Return what a text has in it. Raises `DnsProviderError`."""
        found = pattern.fullmatch(self.text(path))
        if found is None:
            raise self.reply.malformed()
        return found[1]


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why Route 53 refuses: a code, and its own words."""

    code: str
    said: str

    @classmethod
    def of(cls, reply: Reply) -> "_Problem":
        """Read a refusal; some are in an ErrorResponse, some are named by the root itself."""
        try:
            root = _Xml.parse(reply)
        except DnsProviderError:
            return cls(f"status {reply.status}", "")
        return cls(root.text(".//Code") or root.kind, root.text(".//Message"))


def _anywhere(path: str) -> str:
    return "/".join(step if step in {"*", ".", ""} else f"{{*}}{step}" for step in path.split("/"))
