"""ARI, profiles and `replaces` at acme2certifier, a second ACME server."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from services.acme.client import (
    Account,
    AcmeClient,
    AcmeProblem,
    certificate_id,
    http_client,
)
from tests.support.acme2certifier import PROFILES, Acme2Certifier, acme2certifier
from tests.support.challenges import issued
from tests.support.csr import new_key


@pytest.fixture(scope="module")
def ca() -> Iterator[Acme2Certifier]:
    with acme2certifier() as server:
        yield server


@pytest.fixture
async def client(ca: Acme2Certifier) -> AsyncIterator[AcmeClient]:
    async with http_client(ca.ca_file) as http:
        yield AcmeClient(ca.directory_url, http)


@pytest.fixture
async def account(client: AcmeClient) -> Account:
    return await client.register(new_key(), "admin@example.com", None)


async def nothing(_name: str, _token: str, _authorization: str) -> None:
    """Do nothing: the server takes a challenge as answered."""


async def obtained(
    client: AcmeClient, account: Account, name: str, **options: str
) -> x509.Certificate:
    """Return a certificate for a name."""
    order = await issued(client, account, [name], "http-01", nothing, key=new_key(), **options)
    assert order.certificate is not None
    chain = await client.certificate(account, order.certificate)
    return x509.load_pem_x509_certificate(chain.encode())


async def test_what_it_offers(client: AcmeClient) -> None:
    directory = await client.directory()
    assert directory.profiles == PROFILES
    assert directory.renewal_info is not None


async def test_when_to_renew(client: AcmeClient, account: Account) -> None:
    leaf = await obtained(client, account, "ari.example.com")
    name = certificate_id(leaf)
    assert name is not None
    info = await client.renewal_info(name)
    half = (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 2
    assert abs(info.start - (leaf.not_valid_before_utc + half)) < timedelta(minutes=1)
    assert abs(info.end - leaf.not_valid_after_utc) < timedelta(minutes=1)
    assert info.retry_after_seconds == 7200


async def test_renew_now() -> None:
    with acme2certifier(renew_now=True, lifetime_days=7) as ca:
        async with http_client(ca.ca_file) as http:
            client = AcmeClient(ca.directory_url, http)
            account = await client.register(new_key(), None, None)
            leaf = await obtained(client, account, "now.example.com")
            info = await client.renewal_info(str(certificate_id(leaf)))
    now = datetime.now(UTC)
    assert info.start < now < info.end < leaf.not_valid_after_utc


async def test_a_certificate_that_it_does_not_know(client: AcmeClient) -> None:
    with pytest.raises(AcmeProblem):
        await client.renewal_info("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")


async def test_what_replaces_what(ca: Acme2Certifier, client: AcmeClient, account: Account) -> None:
    name = certificate_id(await obtained(client, account, "old.example.com"))
    renewed = await obtained(client, account, "old.example.com", replaces=str(name))
    assert certificate_id(renewed) != name
    assert [order["replaces"] for order in ca.asked("/acme/neworders") if "replaces" in order] == [
        name
    ]


@pytest.mark.parametrize("profile", PROFILES)
async def test_profiles(
    ca: Acme2Certifier, client: AcmeClient, account: Account, profile: str
) -> None:
    leaf = await obtained(client, account, f"{profile}.example.com", profile=profile)
    assert leaf.issuer == ca.authority.issuing.subject
    assert ca.asked("/acme/neworders")[-1]["profile"] == profile


async def test_a_profile_that_it_does_not_offer(client: AcmeClient, account: Account) -> None:
    with pytest.raises(AcmeProblem) as refused:
        await client.new_order(account, ["none.example.com"], profile="none")
    assert refused.value.type == "invalidProfile"


async def test_revokes_twice(client: AcmeClient, account: Account) -> None:
    leaf = await obtained(client, account, "revoked.example.com")
    for _ in range(2):
        await client.revoke(account, leaf.public_bytes(Encoding.DER), 1)


async def test_the_key_changes(client: AcmeClient, account: Account) -> None:
    key = new_key()
    changed = await client.change_key(account, key)
    assert await client.register(key, None, None) == changed
    assert await client.change_key(account, key) == changed
    with pytest.raises(AcmeProblem):
        await client.new_order(account, ["old-key.example.com"])
