"""Route 53: signatures, XML, and record sets that are exchanged under a condition."""

from collections.abc import AsyncIterator, Iterator
from xml.sax.saxutils import escape

import pytest
from starlette.responses import Response
from starlette.types import ASGIApp

from contracts.dns import AwsCredentials
from services.acme.dns import DnsProviderError, aws, open_provider, record_sets
from services.acme.dns.aws import home_region
from tests.support.dns_providers.accounts import Account
from tests.support.dns_providers.faults import status
from tests.support.dns_providers.route53 import Moto, Route53Hosting, moto, route53

NAME = "_acme-challenge.example.test"
VALUE = "A" * 43
XMLNS = 'xmlns="https://route53.amazonaws.com/doc/2013-04-01/"'


@pytest.fixture(scope="module")
def running_moto() -> Iterator[Moto]:
    with moto() as running:
        yield running


@pytest.fixture
async def account(running_moto: Moto) -> AsyncIterator[Account]:
    async with route53(running_moto)() as account:
        yield account


def hosting(account: Account) -> Route53Hosting:
    assert isinstance(account.hosting, Route53Hosting)
    return account.hosting


def xml(root: str, content: str, code: int = 200) -> ASGIApp:
    return Response(f"<?xml version='1.0'?><{root} {XMLNS}>{content}</{root}>", code)


def failed(code: str, http_status: int = 400, message: str = "said") -> ASGIApp:
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return xml("ErrorResponse", error, http_status)


def zones(*names_and_ids: tuple[str, str], more: str = "") -> ASGIApp:
    listed = "".join(
        f"<HostedZone><Id>/hostedzone/{zone}</Id><Name>{name}.</Name>"
        "<Config><PrivateZone>false</PrivateZone></Config></HostedZone>"
        for name, zone in names_and_ids
    )
    return xml("ListHostedZonesByNameResponse", f"<HostedZones>{listed}</HostedZones>{more}")


@pytest.mark.parametrize(
    ("region", "home"),
    [
        ("us-east-1", "us-east-1"),
        ("eu-central-1", "us-east-1"),
        ("cn-north-1", "cn-northwest-1"),
        ("us-gov-east-1", "us-gov-west-1"),
        ("cnx-1", "us-east-1"),
    ],
)
def test_route_53_is_in_one_region_of_a_partition(region: str, home: str) -> None:
    assert home_region(region) == home


async def test_nothing_of_the_environment_is_used(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAANOTHER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another-token")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    account.hosting.host("example.test")
    await account.provider.add(NAME, VALUE)
    assert account.hosting.values(NAME) == [VALUE]


async def test_an_access_key_that_nobody_knows(account: Account) -> None:
    credentials = AwsCredentials(
        access_key_id="AKIAANOTHER", secret_access_key="another-secret", region="us-east-1"
    )
    provider = open_provider(credentials, account.endpoints, account.http)
    with pytest.raises(DnsProviderError, match="does not know the access key"):
        await provider.add(NAME, VALUE)


async def test_others_keep_what_they_have_written(account: Account) -> None:
    zone = account.hosting.host("example.test")
    hosting(account).put(zone, NAME, 'a & b < c \\"d\\"" "e', ttl=300)
    before = hosting(account).read(zone, NAME)
    assert before is not None
    await account.provider.add(NAME, VALUE)
    assert hosting(account).read(zone, NAME) == (1, [*before[1], f'"{VALUE}"'])
    await account.provider.remove(NAME, VALUE)
    assert hosting(account).read(zone, NAME) == (1, before[1])


async def test_private_zones_are_passed_over(account: Account) -> None:
    parent = account.hosting.host("example.test")
    account.hosting.host("www.example.test", private=True)
    await account.provider.add("_acme-challenge.www.example.test", VALUE)
    assert account.hosting.zones_with("_acme-challenge.www.example.test") == [parent]


async def test_of_zones_with_one_name_every_public_one_gets_the_record(account: Account) -> None:
    public = [account.hosting.host("example.test")]
    account.hosting.host("example.test", private=True)
    public.append(account.hosting.host("example.test"))
    await account.provider.add(NAME, VALUE)
    assert sorted(account.hosting.zones_with(NAME)) == sorted(public)
    await account.provider.remove(NAME, VALUE)
    assert account.hosting.zones_with(NAME) == []


async def test_zones_come_on_pages(account: Account) -> None:
    zone = account.hosting.host("example.test")
    more = "<NextDNSName>example.test.</NextDNSName><NextHostedZoneId>Z2</NextHostedZoneId>"
    first = zones(more=more)
    second = zones(("example.test", zone), ("another.test", "Z3"))
    account.server.planned = [None, first, second]
    await account.provider.add(NAME, VALUE)
    assert account.hosting.values(NAME) == [VALUE]


async def test_pages_have_an_end(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "MOST_PAGES", 3)
    more = f"<NextDNSName>{NAME}.</NextDNSName><NextHostedZoneId>Z2</NextHostedZoneId>"
    account.server.always = zones(more=more)
    with pytest.raises(DnsProviderError, match="pages"):
        await account.provider.add(NAME, VALUE)


@pytest.mark.parametrize("zone", ["../x", "", "z1", "A" * 33])
async def test_an_id_that_is_none_goes_into_no_address(account: Account, zone: str) -> None:
    account.server.always = zones((NAME, zone))
    with pytest.raises(DnsProviderError, match="cannot be read"):
        await account.provider.add(NAME, VALUE)
    assert len(account.server.asked) == 1


@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>',
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'.encode("utf-16"),
        '<?xml version="1.0" encoding="utf-16"?><x/>'.encode("utf-16"),
        b"<x>\xff</x>",
        b"<x>&unknown;</x>",
        b"<x>",
        b"",
    ],
)
async def test_xml_that_is_none(account: Account, content: bytes) -> None:
    account.server.always = Response(content)
    with pytest.raises(DnsProviderError, match="cannot be read"):
        await account.provider.add(NAME, VALUE)


@pytest.mark.parametrize(
    ("fault", "words", "transient"),
    [
        (failed("Throttling"), "limits how often", True),
        (failed("PriorRequestNotComplete"), "limits how often", True),
        (failed("AccessDenied", 403), "route53:ChangeResourceRecordSets", False),
        (failed("InvalidClientTokenId", 403), "does not know the access key", False),
        (failed("SignatureDoesNotMatch", 403), "or this machine's clock", False),
        (failed("InvalidInput", message="a\n<b>"), "refused it .InvalidInput: a <b>.", False),
        (failed("InvalidChangeBatch"), "refused it .InvalidChangeBatch: said.", False),
        (xml("NoSuchHostedZone", "", 404), "does not have the zone any more", False),
        (status(400, "no XML"), "refused it .status 400.", False),
    ],
)
async def test_refusals_in_words(
    account: Account, fault: ASGIApp, words: str, *, transient: bool
) -> None:
    account.server.always = fault
    with pytest.raises(DnsProviderError, match=words) as caught:
        await account.provider.add(NAME, VALUE)
    assert caught.value.transient is transient


async def test_a_refusal_that_no_change_explains_is_told(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_sets, "PAUSE_SECONDS", 0)
    account.hosting.host("example.test")
    said = "<Messages><Message>There is a CNAME.</Message></Messages>"
    for refusal in (
        failed("InvalidChangeBatch", message="There is a CNAME."),
        xml("InvalidChangeBatch", said, 400),
    ):
        account.server.planned = [None, None, *[None, refusal] * 3]
        words = f"the records of {NAME} cannot be set: There is a CNAME."
        with pytest.raises(DnsProviderError, match=words) as caught:
            await account.provider.add(NAME, VALUE)
        assert not caught.value.transient


async def test_a_set_with_a_routing_policy_is_left_alone(account: Account) -> None:
    account.hosting.host("example.test")
    routed = f"<Name>{NAME}.</Name><Type>TXT</Type><SetIdentifier>a</SetIdentifier><TTL>1</TTL>"
    sets = f"<ResourceRecordSets><ResourceRecordSet>{routed}</ResourceRecordSet>"
    page = xml("ListResourceRecordSetsResponse", f"{sets}</ResourceRecordSets>")
    account.server.planned = [None, None, page]
    with pytest.raises(DnsProviderError, match="routing policy"):
        await account.provider.add(NAME, VALUE)
