"""A strict pebble issues what each provider's records prove, and nothing else."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager

import pytest
from cryptography import x509

from services.acme.client import (
    Account,
    AcmeClient,
    AuthorizationStatus,
    dns_txt_value,
    http_client,
)
from services.acme.dns import DnsProvider, godaddy
from services.acme.dns.propagation import challenge_name, missing_at
from tests.support.challenges import authorized, challenge_of, issued
from tests.support.csr import new_key
from tests.support.dns_providers import accounts
from tests.support.dns_providers.accounts import Opened
from tests.support.dns_providers.hosting import into
from tests.support.dns_providers.route53 import Moto, moto, route53
from tests.support.eventually import eventually
from tests.support.pebble import ChallengeDns, Pebble, challenge_dns, pebble

DNS_01 = "dns-01"
PROVIDERS: dict[str, Opened] = {
    "cloudflare": accounts.cloudflare,
    "digitalocean": accounts.digitalocean,
    "godaddy": accounts.godaddy,
    "google": accounts.google,
}


@pytest.fixture(scope="module")
def running_moto() -> Iterator[Moto]:
    with moto() as running:
        yield running


@pytest.fixture(scope="module")
def resolver() -> Iterator[ChallengeDns]:
    with challenge_dns() as server:
        yield server


@pytest.fixture(scope="module")
def ca(resolver: ChallengeDns) -> Iterator[Pebble]:
    with pebble(resolver) as server:
        yield server


@pytest.fixture
async def client(ca: Pebble) -> AsyncIterator[AcmeClient]:
    async with http_client(ca.ca_file) as http:
        yield AcmeClient(ca.directory_url, http)


@pytest.fixture
async def account(client: AcmeClient) -> Account:
    return await client.register(new_key(), "admin@example.test", None)


@pytest.fixture(params=[*PROVIDERS, "aws"])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Opened:
    monkeypatch.setattr(godaddy, "SETTLED_SECONDS", 0.1)
    if request.param == "aws":
        return route53(request.getfixturevalue("running_moto"))
    return PROVIDERS[request.param]


class Answers:
    """Answers challenges with TXT records, and takes them away again."""

    def __init__(self, provider: DnsProvider, resolver: ChallengeDns) -> None:
        self._provider = provider
        self._at = resolver.address
        self.records: dict[str, set[str]] = {}

    async def put(self, domain: str, _token: str, authorization: str) -> None:
        """Add a record, and see that it is there."""
        name, value = await challenge_name(domain, self._at), dns_txt_value(authorization)
        await self._provider.add(name, value)
        self.records.setdefault(name, set()).add(value)
        assert await missing_at(self.records, self._at) == []

    async def remove(self) -> None:
        """Remove all records, and see that they are gone."""
        for name, values in self.records.items():
            for value in values:
                await self._provider.remove(name, value)
            (missing,) = await missing_at({name: values}, self._at)
            assert "does not have" in missing


def running(
    opened: Opened, resolver: ChallengeDns
) -> AbstractAsyncContextManager[accounts.Account]:
    return opened(into(resolver))


async def test_a_wildcard_and_the_name_above_it(
    opened: Opened, resolver: ChallengeDns, client: AcmeClient, account: Account
) -> None:
    async with running(opened, resolver) as provided:
        provided.hosting.host("example.test")
        answers = Answers(provided.provider, resolver)
        names = ["www.example.test", "*.www.example.test"]
        order = await issued(client, account, names, DNS_01, answers.put, key=new_key())
        assert [len(values) for values in answers.records.values()] == [2]
        await answers.remove()
    assert order.certificate is not None
    chain = await client.certificate(account, order.certificate, None)
    leaf = x509.load_pem_x509_certificates(chain.encode())[0]
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(san.get_values_for_type(x509.DNSName)) == sorted(names)


async def test_a_challenge_that_is_delegated(
    resolver: ChallengeDns, client: AcmeClient, account: Account
) -> None:
    resolver.set_cname("_acme-challenge.delegated.test", "delegated.acme.test")
    async with running(accounts.cloudflare, resolver) as provided:
        provided.hosting.host("acme.test")
        answers = Answers(provided.provider, resolver)
        await issued(client, account, ["delegated.test"], DNS_01, answers.put, key=new_key())
        assert list(answers.records) == ["delegated.acme.test"]
        await answers.remove()


async def test_what_is_only_in_a_private_zone_proves_nothing(
    resolver: ChallengeDns, client: AcmeClient, account: Account
) -> None:
    async with running(accounts.cloudflare, resolver) as provided:
        provided.hosting.host("private.test", private=True)

        async def put(domain: str, _token: str, authorization: str) -> None:
            value = dns_txt_value(authorization)
            await provided.provider.add(f"_acme-challenge.{domain}", value)

        order = await client.new_order(account, ["private.test"])
        with pytest.raises(AssertionError, match="invalid"):
            await authorized(client, account, order, DNS_01, put)


async def test_without_a_record_nothing_is_proved(client: AcmeClient, account: Account) -> None:
    order = await client.new_order(account, ["unproved.test"])
    (url,) = order.authorizations
    authorization = await client.authorization(account, url)
    await client.answer(account, challenge_of(authorization.challenges, DNS_01).url)

    async def refused() -> bool:
        status = (await client.authorization(account, url)).status
        return status is AuthorizationStatus.INVALID

    await eventually(refused, "the authorisation is refused", seconds=20)
