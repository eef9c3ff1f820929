"""`/api/v1/certificates` of the fastpki dialect."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx2
import pytest

from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.pki import (
    CERTIFICATE_PAGE,
    CertificateList,
    CertificateStatus,
    CertificateView,
    CertificateWithKey,
    CreateCertificate,
    GetCertificate,
    GetCertificatePrivateKey,
    KeyType,
    ListCertificates,
    RevokeCertificate,
    SignCsr,
    SubjectNames,
)
from contracts.principal import Principal, PrincipalKind, Role
from services.gateway.app import Gateway
from shared.secrets import token_hash
from tests.support.stand_in import StandIn, client

CERTIFICATES = "/api/v1/certificates"
NOON = datetime(2026, 4, 19, 12, 0, 0, tzinfo=UTC)
ALICE = Principal(kind=PrincipalKind.USER, id="3", name="alice", organization_id=7, role=Role.USER)
VIEW = CertificateView(
    id=5,
    common_name="api.example.com",
    subject_dn="CN=api.example.com,O=Acme",
    subject_alternative_names=("DNS:api.example.com",),
    certificate_type=CertificateKind.SERVER,
    key_type=KeyType.EC,
    key_size=256,
    valid_days=365,
    status=CertificateStatus.VALID,
    certificate_pem="-----BEGIN CERTIFICATE-----\n",
    fingerprint="ab" * 32,
    serial_hex="1f",
    not_before=NOON,
    not_after=NOON,
    revoked_at=None,
    revocation_reason=None,
    revocation_detail=None,
    issuer_id=1,
    organization_id=7,
    created_by_user_id=3,
    created_at=NOON,
    updated_at=NOON,
)
WITH_KEY = CertificateWithKey(certificate=VIEW, private_key_pem="-----BEGIN PRIVATE KEY-----\n")
RULED = {
    "id", "common_name", "subject_dn", "certificate_type", "key_size", "valid_days", "status",
    "certificate", "serial_number", "not_before", "not_after", "revoked_at", "created_at",
    "updated_at", "issuer_id", "organization_id", "created_by_user_id",
}  # fmt: skip
"""What the rulings say that a certificate object carries."""
NEW = {
    "common_name": "api.example.com",
    "subject_dn": "CN=api.example.com,O=Acme",
    "certificate_type": "server",
}
SIGN = {"csr": "a CSR", "certificate_type": "server", "ca_id": 1}


@pytest.fixture
async def alice(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    """Call with a user's token."""
    stand_in.know(token_hash("alices-token"), ALICE)
    stand_in.says(
        {
            SignCsr: VIEW,
            CreateCertificate: WITH_KEY,
            ListCertificates: CertificateList(certificates=(VIEW,)),
            GetCertificate: VIEW,
            GetCertificatePrivateKey: WITH_KEY,
            RevokeCertificate: VIEW,
        }
    )
    async with client(gateway, stand_in.authority) as connection:
        connection.headers["Authorization"] = "Bearer alices-token"
        yield connection


@pytest.mark.parametrize("slash", ["", "/"])
async def test_every_route(alice: httpx2.AsyncClient, stand_in: StandIn, slash: str) -> None:
    for method, path, body, status, command in (
        ("POST", f"/sign-csr{slash}", SIGN, 201, SignCsr),
        ("POST", f"{slash}?ca_id=1", NEW, 201, CreateCertificate),
        ("GET", slash, None, 200, ListCertificates),
        ("GET", f"/5{slash}", None, 200, GetCertificate),
        ("GET", f"/5/private-key{slash}", None, 200, GetCertificatePrivateKey),
        ("POST", f"/5/revoke{slash}", {"reason": "Key compromise"}, 200, RevokeCertificate),
    ):
        answer = await alice.request(method, CERTIFICATES + path, json=body)
        assert answer.status_code == status, (path, answer.text)
        shown = answer.json()
        if isinstance(shown, list):
            (shown,) = shown
        assert shown.keys() >= RULED
        assert ("private_key" in shown) == (
            command in {CreateCertificate, GetCertificatePrivateKey}
        )
        (sent,) = stand_in.heard_of(command)
        assert getattr(sent, "actor", None) == ALICE


async def test_a_certificate_as_it_is_shown(alice: httpx2.AsyncClient) -> None:
    answer = await alice.post(f"{CERTIFICATES}/sign-csr", json=SIGN)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "id": 5,
        "common_name": "api.example.com",
        "subject_dn": "CN=api.example.com,O=Acme",
        "subject_alternative_names": ["DNS:api.example.com"],
        "certificate_type": "server",
        "key_type": "ec",
        "key_size": 256,
        "valid_days": 365,
        "status": "valid",
        "certificate": "-----BEGIN CERTIFICATE-----\n",
        "fingerprint": "ab" * 32,
        "serial_number": "1f",
        "not_before": "2026-04-19T12:00:00Z",
        "not_after": "2026-04-19T12:00:00Z",
        "revoked_at": None,
        "revocation_reason": None,
        "revocation_detail": None,
        "issuer_id": 1,
        "organization_id": 7,
        "created_by_user_id": 3,
        "created_at": "2026-04-19T12:00:00Z",
        "updated_at": "2026-04-19T12:00:00Z",
    }


async def test_what_is_asked_for_reaches_the_issuer(
    alice: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    sans = {"san_dns_names": ["a.example.com"], "san_ip_addresses": [], "san_email_addresses": None}
    body: dict[str, object] = {"csr": "a CSR", "certificate_type": "dual_purpose"}
    body |= {"ca_name": "Acme Issuing CA"}
    body |= {"common_name": "a", "valid_days": 7, **sans}
    await alice.post(f"{CERTIFICATES}/sign-csr", json=body, headers={"Idempotency-Key": "k"})
    (sent,) = stand_in.heard_of(SignCsr)
    names = SubjectNames(common_name="a", san_dns_names=("a.example.com",), san_ip_addresses=())
    assert (sent.csr_pem, sent.ca_id, sent.ca_name) == ("a CSR", None, "Acme Issuing CA")
    assert (sent.certificate_type, sent.valid_days) == (CertificateKind.DUAL_PURPOSE, 7)
    assert sent.names == names
    assert sent.call.idempotency is not None
    await alice.post(f"{CERTIFICATES}/?ca_id=9", json=NEW)
    (made,) = stand_in.heard_of(CreateCertificate)
    assert (made.ca_id, made.key_type, made.key_size) == (9, KeyType.RSA, None)
    assert (made.valid_days, made.include_private_key) == (365, True)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/sign-csr", SIGN | {"ca_name": "and by name"}),
        ("POST", "/sign-csr", {"csr": "a CSR", "certificate_type": "server"}),
        ("POST", "/sign-csr", SIGN | {"certificate_type": "instance"}),
        ("POST", "/sign-csr", SIGN | {"ca_id": 0}),
        ("POST", "/sign-csr", SIGN | {"ca_id": 2**63}),
        ("POST", "/sign-csr", SIGN | {"csr": "x" * 20_000}),
        ("POST", "/sign-csr", SIGN | {"valid_days": 0}),
        ("POST", "/sign-csr", SIGN | {"common_name": "x" * 65}),
        ("POST", "/sign-csr", SIGN | {"san_dns_names": ["a.example.com"] * 101}),
        ("POST", "/sign-csr", {"csr": "x", "certificate_type": "server", "ca_name": "a\0b"}),
        ("POST", "/sign-csr", None),
        ("POST", "/", NEW),
        ("POST", "/?ca_id=x", NEW),
        ("POST", "/?ca_id=1", {**NEW, "common_name": None}),
        ("POST", "/?ca_id=1", {**NEW, "key_type": "dsa"}),
        ("POST", "/?ca_id=1", {**NEW, "key_size": 2**40}),
        ("GET", "/?limit=1001", None),
        ("GET", "/?skip=-1", None),
        ("GET", "/0", None),
        ("GET", "/x", None),
        ("GET", "/1.0", None),
        ("GET", f"/{2**63}/private-key", None),
        ("POST", "/5/revoke", {"reason": "x" * 1025}),
        ("POST", "/5/revoke", {"reason": "a\0b"}),
    ],
)
async def test_what_does_not_make_sense_is_refused_here(
    alice: httpx2.AsyncClient, stand_in: StandIn, method: str, path: str, body: object
) -> None:
    answer = await alice.request(method, CERTIFICATES + path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0].keys() == {"loc", "msg", "type"}
    commands = (SignCsr, CreateCertificate, ListCertificates, GetCertificate, RevokeCertificate)
    assert not any(stand_in.heard_of(command) for command in commands)


async def test_without_a_token_nobody_is_asked(
    gateway: Gateway, stand_in: StandIn, alice: httpx2.AsyncClient
) -> None:
    stand_in.know(leaf := stand_in.authority.client("admin"), ALICE)
    async with client(gateway, stand_in.authority, leaf) as other:  # a certificate does not count
        answer = await other.post(f"{CERTIFICATES}/sign-csr", json=SIGN)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Not authenticated"})
    assert answer.headers["www-authenticate"] == "Bearer"
    alice.headers["Authorization"] = "Bearer another"
    assert (await alice.get(f"{CERTIFICATES}/5")).status_code == 401


@pytest.mark.parametrize(
    ("code", "status", "detail"),
    [
        (ErrorCode.INVALID_CSR, 400, "Invalid CSR: because"),
        (ErrorCode.AGAINST_POLICY, 400, "because"),
        (ErrorCode.FORBIDDEN, 403, "because"),
        (ErrorCode.NOT_FOUND, 404, "because"),
        (ErrorCode.CONFLICT, 409, "because"),
        (ErrorCode.ALREADY_REVOKED, 409, "Certificate is already revoked"),
        (ErrorCode.OWNED_ELSEWHERE, 409, "because"),
        (ErrorCode.CA_CANNOT_SIGN, 500, "CA error"),
    ],
)
async def test_refusals(
    alice: httpx2.AsyncClient, stand_in: StandIn, code: ErrorCode, status: int, detail: str
) -> None:
    stand_in.says(dict.fromkeys((SignCsr, RevokeCertificate), CertwireError(code, "because")))
    for path, body in (("/sign-csr", SIGN), ("/5/revoke", {})):
        answer = await alice.post(CERTIFICATES + path, json=body)
        assert (answer.status_code, answer.json()["detail"]) == (status, detail)


async def test_long_lists_come_in_pages_over_the_bus(
    alice: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    total = CERTIFICATE_PAGE + 30

    async def page(command: ListCertificates) -> CertificateList:
        ids = range(command.skip, min(command.skip + command.limit, total))
        return CertificateList(
            certificates=tuple(VIEW.model_copy(update={"id": number + 1}) for number in ids)
        )

    stand_in.says({ListCertificates: page})
    answer = await alice.get(f"{CERTIFICATES}/", params={"limit": 1000, "skip": 10, "ca_id": 4})
    assert [shown["id"] for shown in answer.json()] == list(range(11, total + 1))
    assert {sent.ca_id for sent in stand_in.heard_of(ListCertificates)} == {4}
    answer = await alice.get(f"{CERTIFICATES}/")
    assert len(answer.json()) == 100
