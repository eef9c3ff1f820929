"""The client at a strict pebble; certbot's client is the oracle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import acme.client
import acme.messages
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from josepy.jwa import ES256
from josepy.jwk import JWKEC
from josepy.util import ComparableECKey

from services.acme.client import (
    Account,
    AcmeClient,
    AcmeProblem,
    AuthorizationStatus,
    CaUnavailable,
    Eab,
    NotOfferedError,
    OrderStatus,
    http_client,
)
from tests.support.challenges import (
    HttpAnswers,
    authorized,
    challenge_of,
    csr_der,
    dns_answers,
    http_answers,
    issued,
    reached,
)
from tests.support.csr import new_key
from tests.support.eventually import eventually
from tests.support.pebble import ChallengeDns, Pebble, challenge_dns, pebble

HTTP, DNS = "http-01", "dns-01"
CUSTOMER = Eab("customer-1", b"what the CA gave its customer: 32 octets or more")


@pytest.fixture(scope="module")
def dns() -> Iterator[ChallengeDns]:
    """Where the CA looks names up."""
    with challenge_dns() as server:
        yield server


@pytest.fixture(scope="module")
def ca(dns: ChallengeDns) -> Iterator[Pebble]:
    """A CA with two roots. It takes each nonce, for certbot's client gives up early."""
    with pebble(dns, alternate_roots=1, nonces_rejected_percent=0) as server:
        yield server


@pytest.fixture(scope="module")
def customers_ca(dns: ChallengeDns) -> Iterator[Pebble]:
    """A CA for customers only."""
    with pebble(dns, external_accounts={CUSTOMER.kid: CUSTOMER.hmac_key}) as server:
        yield server


@pytest.fixture
async def client(ca: Pebble) -> AsyncIterator[AcmeClient]:
    async with client_of(ca) as one:
        yield one


@pytest.fixture
async def account(client: AcmeClient) -> Account:
    return await client.register(new_key(), "admin@example.com", None)


@pytest.fixture
async def answers(ca: Pebble) -> AsyncIterator[HttpAnswers]:
    async with http_answers(ca.http_port) as server:
        yield server


@asynccontextmanager
async def client_of(
    ca: Pebble, *hooks: Callable[[httpx2.Response], Awaitable[None]]
) -> AsyncIterator[AcmeClient]:
    async with http_client(ca.ca_file) as http:
        http.event_hooks = {"response": list(hooks)}
        yield AcmeClient(ca.directory_url, http)


def leaf_of(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def der_of(pem: str) -> bytes:
    return leaf_of(pem).public_bytes(Encoding.DER)


def common_name(pem: str) -> str:
    return str(leaf_of(pem).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def names_in(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return sorted(found.value.get_values_for_type(x509.DNSName))


async def chain(client: AcmeClient, account: Account, answers: HttpAnswers, name: str) -> str:
    """Return a chain for one name."""
    order = await issued(client, account, [name], HTTP, answers.put, key=new_key())
    assert order.certificate is not None
    return await client.certificate(account, order.certificate)


# --- Accounts -------------------------------------------------------------------------------------


async def test_what_the_ca_offers(client: AcmeClient, customers_ca: Pebble) -> None:
    directory = await client.directory()
    assert directory.terms_of_service == "data:text/plain,Do%20what%20thou%20wilt"
    assert (directory.profiles, directory.renewal_info) == ({}, None)
    assert not directory.external_account_required
    async with client_of(customers_ca) as other:
        assert (await other.directory()).external_account_required


async def test_registers_again_where_the_reply_was_lost(ca: Pebble) -> None:
    key = new_key()
    async with client_of(ca) as first:
        made = await first.register(key, None, None)
    async with client_of(ca) as second:
        assert await second.register(key, "admin@example.com", None) == made
        assert await second.register(new_key(), None, None) != made


async def test_a_customer_registers(customers_ca: Pebble) -> None:
    key = new_key()
    async with client_of(customers_ca) as client:
        account = await client.register(key, "admin@example.com", CUSTOMER)
        assert await client.register(key, "admin@example.com", CUSTOMER) == account


@pytest.mark.parametrize(
    ("eab", "kind"),
    [
        (None, "externalAccountRequired"),
        (Eab(CUSTOMER.kid, b"another key that nobody gave this customer"), "unauthorized"),
        (Eab("customer-2", CUSTOMER.hmac_key), "unauthorized"),
    ],
)
async def test_nobody_else_registers(customers_ca: Pebble, eab: Eab | None, kind: str) -> None:
    async with client_of(customers_ca) as client:
        with pytest.raises(AcmeProblem) as refused:
            await client.register(new_key(), None, eab)
    assert refused.value.type == kind
    assert refused.value.detail
    assert 400 <= refused.value.status < 500


async def test_the_contact_changes(client: AcmeClient, ca: Pebble) -> None:
    key = new_key()
    account = await client.register(key, "first+tag@example.com", None)
    assert contacts(ca, account) == ["mailto:first+tag@example.com"]
    await client.update_contact(account, "second@example.com")
    assert contacts(ca, account) == ["mailto:second@example.com"]


async def test_an_address_is_one_address(client: AcmeClient) -> None:
    with pytest.raises(AcmeProblem, match="%3Fcc=") as refused:
        await client.register(new_key(), "a@example.com?cc=b@example.com", None)
    assert refused.value.type == "invalidContact"


async def test_the_key_changes(client: AcmeClient, account: Account) -> None:
    order = await client.new_order(account, ["key.example.com"])
    changed = await client.change_key(account, new_key())
    assert changed.url == account.url
    assert await client.order(changed, order.url) == order
    with pytest.raises(AcmeProblem):
        await client.order(account, order.url)


async def test_changes_the_key_again_where_the_reply_was_lost(
    client: AcmeClient, account: Account
) -> None:
    key = new_key()
    changed = await client.change_key(account, key)
    assert await client.change_key(account, key) == changed


async def test_the_key_of_another_account_is_refused(client: AcmeClient, account: Account) -> None:
    key = new_key()
    await client.register(key, None, None)
    with pytest.raises(CaUnavailable, match="already in use"):  # the RFC has a conflict
        await client.change_key(account, key)


# --- Orders ---------------------------------------------------------------------------------------


async def test_http_01(client: AcmeClient, account: Account, answers: HttpAnswers) -> None:
    key = new_key()
    names = ["a.http.example.com", "b.http.example.com"]
    order = await issued(client, account, names, HTTP, answers.put, key=key)
    assert order.certificate is not None
    pem = await client.certificate(account, order.certificate)
    leaf = leaf_of(pem)
    assert names_in(leaf) == names
    assert leaf.public_key() == key.public_key()
    assert len(x509.load_pem_x509_certificates(pem.encode())) == 2


async def test_wildcard_and_apex_by_dns_01(
    client: AcmeClient, account: Account, dns: ChallengeDns
) -> None:
    names = ["*.dns.example.com", "dns.example.com"]
    order = await client.new_order(account, names)
    found = [await client.authorization(account, url) for url in order.authorizations]
    assert {each.identifier for each in found} == {"dns.example.com"}
    assert sorted(each.wildcard for each in found) == [False, True]
    await authorized(client, account, order, DNS, dns_answers(dns))
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    await client.finalize(account, order.finalize, csr_der(key, names))
    order = await reached(client, account, order.url, OrderStatus.VALID)
    assert order.certificate is not None
    leaf = leaf_of(await client.certificate(account, order.certificate))
    assert names_in(leaf) == names
    assert leaf.public_key() == key.public_key()


async def test_nonces_are_refused_often(dns: ChallengeDns) -> None:
    refused = []

    async def note(response: httpx2.Response) -> None:
        if response.status_code == httpx2.codes.BAD_REQUEST:
            refused.append(response.request.url)

    with pebble(dns, nonces_rejected_percent=30) as ca:
        async with client_of(ca, note) as client, http_answers(ca.http_port) as answers:
            account = await client.register(new_key(), None, None)
            for number in range(20):
                assert await chain(client, account, answers, f"nonces-{number}.example.com")
                if len(refused) >= 5:
                    break
    assert len(refused) >= 5


async def test_many_at_once(client: AcmeClient, account: Account) -> None:
    names = [f"many-{number}.example.com" for number in range(20)]
    orders = await asyncio.gather(*(client.new_order(account, [name]) for name in names))
    assert [order.identifiers for order in orders] == [(name,) for name in names]


async def test_a_challenge_fails(
    client: AcmeClient, account: Account, answers: HttpAnswers
) -> None:
    order = await client.new_order(account, ["nothing.example.com"])
    (url,) = order.authorizations
    authorization = await client.authorization(account, url)
    challenge = challenge_of(authorization.challenges, HTTP)
    await client.answer(account, challenge.url)

    async def judged() -> bool:
        return (await client.authorization(account, url)).status is AuthorizationStatus.INVALID

    await eventually(judged, "the authorisation is invalid")
    assert f"/.well-known/acme-challenge/{challenge.token}" in answers.asked
    failed = challenge_of((await client.authorization(account, url)).challenges, HTTP)
    assert failed.error is not None
    assert failed.error.type == "unauthorized"
    assert "404" in failed.error.detail
    assert (await client.order(account, order.url)).status is OrderStatus.INVALID


async def test_an_authorisation_is_given_up(client: AcmeClient, account: Account) -> None:
    order = await client.new_order(account, ["given-up.example.com"])
    (url,) = order.authorizations
    await client.deactivate_authorization(account, url)
    assert (await client.authorization(account, url)).status is AuthorizationStatus.DEACTIVATED


async def test_an_order_for_what_the_ca_blocks_is_refused(dns: ChallengeDns) -> None:
    with pebble(dns, blocked=["blocked.example"]) as ca:
        async with client_of(ca) as client:
            account = await client.register(new_key(), None, None)
            with pytest.raises(AcmeProblem) as refused:
                await client.new_order(account, ["www.blocked.example"])
    assert refused.value.type == "rejectedIdentifier"
    assert "www.blocked.example" in refused.value.detail


async def test_finalising_too_early_is_refused(client: AcmeClient, account: Account) -> None:
    order = await client.new_order(account, ["early.example.com"])
    with pytest.raises(AcmeProblem) as refused:
        await client.finalize(account, order.finalize, csr_der(new_key(), order.identifiers))
    assert refused.value.type == "orderNotReady"
    assert refused.value.status == 403


# --- Certificates ---------------------------------------------------------------------------------


async def test_the_preferred_chain(
    ca: Pebble, client: AcmeClient, account: Account, answers: HttpAnswers
) -> None:
    order = await issued(client, account, ["chains.example.com"], HTTP, answers.put, key=new_key())
    url = order.certificate
    assert url is not None
    usual = await client.certificate(account, url)
    for number in (0, 1):
        root = common_name(ca.root(number))
        pem = await client.certificate(account, url, root)
        topmost = x509.load_pem_x509_certificates(pem.encode())[-1]
        assert topmost.issuer == leaf_of(ca.root(number)).subject
        assert leaf_of(pem) == leaf_of(usual)
        assert (pem == usual) is (number == 0)
    for intermediate_or_none in (common_name(ca.intermediate()), "A root of nobody"):
        assert await client.certificate(account, url, intermediate_or_none) == usual


async def test_the_account_revokes_twice(
    ca: Pebble, client: AcmeClient, account: Account, answers: HttpAnswers
) -> None:
    pem = await chain(client, account, answers, "revoked.example.com")
    assert ca.status(leaf_of(pem).serial_number)["Status"] == "Valid"
    await client.revoke(account, der_of(pem), 4)
    await client.revoke(account, der_of(pem), None)
    status = ca.status(leaf_of(pem).serial_number)
    assert (status["Status"], status["Reason"]) == ("Revoked", 4)


@pytest.mark.parametrize("rsa_key", [False, True])
async def test_the_key_of_the_certificate_revokes_it(
    ca: Pebble, client: AcmeClient, account: Account, answers: HttpAnswers, *, rsa_key: bool
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048) if rsa_key else new_key()
    names = [f"by-key-{rsa_key:d}.example.com"]
    order = await issued(client, account, names, HTTP, answers.put, key=key)
    assert order.certificate is not None
    pem = await client.certificate(account, order.certificate)
    with pytest.raises(AcmeProblem):
        await client.revoke(new_key(), der_of(pem), 1)
    await client.revoke(key, der_of(pem), 1)
    assert ca.status(leaf_of(pem).serial_number)["Status"] == "Revoked"


async def test_another_account_revokes_nothing(
    ca: Pebble, client: AcmeClient, account: Account, answers: HttpAnswers
) -> None:
    pem = await chain(client, account, answers, "not-theirs.example.com")
    stranger = await client.register(new_key(), None, None)
    with pytest.raises(AcmeProblem):
        await client.revoke(stranger, der_of(pem), 1)
    assert ca.status(leaf_of(pem).serial_number)["Status"] == "Valid"


async def test_there_is_no_renewal_information(client: AcmeClient) -> None:
    with pytest.raises(NotOfferedError, match="renewal information"):
        await client.renewal_info("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")


# --- The oracle -----------------------------------------------------------------------------------


def oracle(ca: Pebble, key: ec.EllipticCurvePrivateKey, url: str | None) -> acme.client.ClientV2:
    """Return certbot's client with a key of ours, and with its account where there is one."""
    network = acme.client.ClientNetwork(JWKEC(key=ComparableECKey(key)), alg=ES256)
    network.verify_ssl = str(ca.ca_file)  # type: ignore[assignment]  # a path, too
    directory = acme.client.ClientV2.get_directory(ca.directory_url, network)
    client = acme.client.ClientV2(directory, network)
    if url is not None:
        network.account = acme.messages.RegistrationResource(
            uri=url, body=acme.messages.Registration()
        )
    return client


def contacts(ca: Pebble, account: Account) -> list[str]:
    """Return what the CA has, as certbot's client reads it."""
    client = oracle(ca, account.key, account.url)
    registration = client.net.account
    assert registration is not None
    return list(client.query_registration(registration).body.contact)


async def test_certbots_client_gets_an_equal_certificate(
    ca: Pebble, client: AcmeClient, account: Account, answers: HttpAnswers
) -> None:
    key, names = new_key(), ["equal.example.com", "www.equal.example.com"]
    order = await issued(client, account, names, HTTP, answers.put, key=key)
    assert order.certificate is not None
    ours = await client.certificate(account, order.certificate)
    theirs = await asyncio.to_thread(ordered_by_oracle, ca, key, names, answers)
    intermediates = [x509.load_pem_x509_certificates(pem.encode())[1:] for pem in (ours, theirs)]
    assert intermediates[0] == intermediates[1] != []
    one, other = leaf_of(ours), leaf_of(theirs)
    assert names_in(one) == names_in(other) == names
    assert one.issuer == other.issuer
    assert one.public_key() == other.public_key() == key.public_key()
    assert [each.oid for each in one.extensions] == [each.oid for each in other.extensions]
    lifetimes = [each.not_valid_after_utc - each.not_valid_before_utc for each in (one, other)]
    assert lifetimes[0] == lifetimes[1]


def ordered_by_oracle(
    ca: Pebble, key: ec.EllipticCurvePrivateKey, names: list[str], answers: HttpAnswers
) -> str:
    client = oracle(ca, new_key(), None)
    client.new_account(acme.messages.NewRegistration(terms_of_service_agreed=True))
    csr = x509.load_der_x509_csr(csr_der(key, names)).public_bytes(Encoding.PEM)
    order = client.new_order(csr)
    for authorization in order.authorizations:
        found = next(each for each in authorization.body.challenges if each.chall.typ == HTTP)
        response, validation = found.response_and_validation(client.net.key)
        answers.ready[found.chall.encode("token")] = validation
        client.answer_challenge(found, response)
    return str(client.poll_and_finalize(order).fullchain_pem)
