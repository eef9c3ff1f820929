"""`/api/v1/cas` and `/api/v1/export` of the fastpki dialect."""

import json
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Done
from contracts.pki import (
    CA_PAGE,
    CaList,
    CaState,
    CaView,
    CaWithKey,
    Chain,
    CreateCa,
    DeleteCa,
    DeleteGrant,
    GetCa,
    GetCaChain,
    GetCaPrivateKey,
    GetCertificateChain,
    Grant,
    GrantList,
    KeyType,
    ListCaChildren,
    ListCas,
    ListGrants,
    NameConstraints,
    PutGrant,
    RetireCa,
    RotateCa,
)
from contracts.principal import Principal, PrincipalKind, Role
from contracts.users import GetMembership, Membership
from services.gateway.app import Gateway
from shared.clock import utc_now
from shared.secrets import token_hash
from tests.support.stand_in import StandIn, client

CAS = "/api/v1/cas"
EXPORT = "/api/v1/export"
NOW = utc_now()
ALICE = Principal(kind=PrincipalKind.USER, id="3", name="alice", organization_id=7, role=Role.USER)
CA = CaView(
    id=5,
    slug="acme-root-5",
    name="Acme Root",
    description=None,
    subject_dn="CN=Acme Root,O=Acme",
    key_type=KeyType.RSA,
    key_size=4096,
    valid_days=3650,
    state=CaState.ACTIVE,
    certificate_pem="-----BEGIN CERTIFICATE-----\n",
    fingerprint="ab" * 32,
    serial_hex="1f",
    not_before=NOW,
    not_after=NOW,
    organization_id=7,
    created_by_user_id=3,
    parent_ca_id=None,
    path_length=None,
    allow_leaf_certs=True,
    crl_base_url=None,
    is_root=True,
    name_constraints=NameConstraints(excluded_ip_ranges=(ip_network("10.0.0.0/8"),)),
    created_at=NOW,
    updated_at=NOW,
)
WITH_KEY = CaWithKey(ca=CA, private_key_pem="-----BEGIN PRIVATE KEY-----\n")
GRANT = Grant(ca_id=5, user_id=9, capabilities=("create_cert",), created_at=NOW, updated_at=NOW)
NEW = {"name": "Acme Root", "subject_dn": "CN=Acme Root,O=Acme"}
FIELDS = {
    "id", "name", "description", "subject_dn", "key_size", "valid_days", "created_at",
    "updated_at", "certificate", "organization_id", "created_by_user_id", "parent_ca_id",
    "path_length", "allow_leaf_certs", "crl_base_url", "is_root",
}  # fmt: skip
"""The rulings'."""


@pytest.fixture
async def alice(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    stand_in.know(token_hash("alice"), ALICE)
    stand_in.says(
        {
            CreateCa: WITH_KEY,
            ListCas: CaList(cas=(CA,)),
            GetCa: CA,
            GetCaChain: CaList(cas=(CA, CA)),
            ListCaChildren: CaList(cas=(CA,)),
            GetCaPrivateKey: WITH_KEY,
            DeleteCa: Done(),
            RetireCa: CA,
            RotateCa: CA,
            ListGrants: GrantList(grants=(GRANT,)),
            PutGrant: GRANT,
            DeleteGrant: Done(),
            GetMembership: Membership(organization_id=7),
            GetCertificateChain: Chain(certificates_pem=("one\n", "two\n")),
        }
    )
    async with client(gateway, stand_in.authority) as connection:
        connection.headers["Authorization"] = "Bearer alice"
        yield connection


@pytest.mark.parametrize("path", [CAS, f"{CAS}/"])
async def test_makes_a_ca(alice: httpx2.AsyncClient, stand_in: StandIn, path: str) -> None:
    asked = {
        **NEW,
        "key_type": "ec",
        "key_size": 384,
        "path_length": 0,
        "crl_base_url": "http://pki.example.com",
        "name_constraints": {"permitted_dns_names": ["example.com"]},
    }
    answer = await alice.post(path, json=asked, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) >= FIELDS | {"private_key"}
    assert body["private_key"] == WITH_KEY.private_key_pem
    assert body["certificate"] == CA.certificate_pem
    (sent,) = stand_in.heard_of(CreateCa)
    assert (sent.actor, sent.key_size, sent.path_length, sent.valid_days) == (ALICE, 384, 0, 3650)
    assert sent.name_constraints == NameConstraints(permitted_dns_names=("example.com",))
    assert sent.call.idempotency is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a\u0000"},
        {"name": "x" * 256},
        {"name": "\ud800"},
        {"description": "\ud800"},
        {"subject_dn": "CN=\ud800"},
        {"description": "a\u0000"},
        {"subject_dn": ""},
        {"subject_dn": "x" * 2049},
        {"subject_dn": None},
        {"key_type": "dsa"},
        {"key_size": 0},
        {"key_size": 10**30},
        {"valid_days": 0},
        {"valid_days": 10**9},
        {"parent_ca_id": 2**63},
        {"parent_ca_id": 0},
        {"path_length": -1},
        {"path_length": 17},
        {"path_length": "1"},
        {"path_length": True},
        {"allow_leaf_certs": "yes"},
        {"crl_base_url": "ftp://pki.example.com"},
        {"crl_base_url": "http://user@pki.example.com"},
        {"crl_base_url": "http://pki.example.com/?x"},
        {"crl_base_url": "http://"},
        {"name_constraints": {"permitted_dns_names": ["*.example.com"]}},
        {"name_constraints": {"permitted_ip_ranges": ["10.0.0.1/8"]}},
        {"name_constraints": {"permitted_ip_ranges": [167772160]}},
        {"name_constraints": {"permited_dns_names": ["example.com"]}},
        {"name_constraints": {"permitted_dns_names": ["example.com"] * 21}},
    ],
)
async def test_what_cannot_be_a_ca_is_422(
    alice: httpx2.AsyncClient, stand_in: StandIn, changes: dict[str, Any]
) -> None:
    answer = await alice.post(
        f"{CAS}/",
        content=json.dumps({**NEW, **changes}),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422
    assert set(answer.json()["detail"][0]) == {"loc", "msg", "type"}
    assert not stand_in.heard_of(CreateCa)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.INVALID_REQUEST, 422),
        (ErrorCode.AGAINST_POLICY, 400),
        (ErrorCode.FORBIDDEN, 403),
        (ErrorCode.NOT_FOUND, 404),
        (ErrorCode.CONFLICT, 409),
        (ErrorCode.IDEMPOTENCY_SECRET_SHOWN, 409),
        (ErrorCode.CA_CANNOT_SIGN, 500),
    ],
)
async def test_refusals(
    alice: httpx2.AsyncClient, stand_in: StandIn, code: ErrorCode, status: int
) -> None:
    stand_in.answers[CreateCa] = CertwireError(code, "why")
    answer = await alice.post(f"{CAS}/", json=NEW)
    assert answer.status_code == status
    assert "detail" in answer.json()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/5", 200),
        ("GET", "/5/chain", 200),
        ("GET", "/5/children", 200),
        ("GET", "/5/private-key", 200),
        ("POST", "/5/retire", 200),
        ("POST", "/5/rotate", 201),
        ("DELETE", "/5", 204),
    ],
)
async def test_about_one(
    alice: httpx2.AsyncClient, stand_in: StandIn, method: str, path: str, status: int
) -> None:
    for slash in ("", "/"):
        answer = await alice.request(method, CAS + path + slash)
        assert answer.status_code == status, answer.text
        if status == 204:
            assert answer.content == b""
            continue
        body = answer.json()
        shown = body if isinstance(body, dict) else body[0]
        assert set(shown) >= FIELDS
        assert ("private_key" in shown) == path.endswith("private-key")
    sent = stand_in.heard[-1]
    assert getattr(sent, "ca_id", None) == 5


@pytest.mark.parametrize("ca_id", ["x", "0", "-1", "1.5", str(2**63), "9" * 5000, "%00", "1%20"])
async def test_what_is_no_id(alice: httpx2.AsyncClient, ca_id: str) -> None:
    for method, path in [
        ("GET", f"{CAS}/{ca_id}"),
        ("DELETE", f"{CAS}/{ca_id}"),
        ("GET", f"{CAS}/{ca_id}/chain"),
        ("DELETE", f"{CAS}/1/grants/{ca_id}"),
        ("GET", f"{EXPORT}/ca/{ca_id}/private-key"),
        ("GET", f"{EXPORT}/certificate/{ca_id}"),
    ]:
        answer = await alice.request(method, path)
        assert answer.status_code in {404, 422}, (path, answer.text)


async def test_nobody_without_a_token(gateway: Gateway, stand_in: StandIn) -> None:
    leaf = stand_in.authority.client("admin")
    stand_in.know(leaf, Principal(kind=PrincipalKind.ADMIN, id="admin", name="admin"))
    async with client(gateway, stand_in.authority, leaf) as admin:
        for method, path in [
            ("GET", f"{CAS}/"),
            ("GET", f"{CAS}/5"),
            ("GET", f"{EXPORT}/ca/5/private-key"),
        ]:
            answer = await admin.request(method, path)
            assert (answer.status_code, answer.json()) == (401, {"detail": "Not authenticated"})


async def test_a_page_is_put_together(alice: httpx2.AsyncClient, stand_in: StandIn) -> None:
    async def page(command: ListCas) -> CaList:
        ids = range(command.skip, min(command.skip + command.limit, 2 * CA_PAGE + 7))
        return CaList(cas=tuple(CA.model_copy(update={"id": number + 1}) for number in ids))

    stand_in.answers[ListCas] = page
    everything = (await alice.get(f"{CAS}/", params={"limit": 1000})).json()
    assert [ca["id"] for ca in everything] == list(range(1, 2 * CA_PAGE + 8))
    some = (await alice.get(f"{CAS}/", params={"skip": 3, "limit": 60})).json()
    assert [ca["id"] for ca in some] == list(range(4, 64))
    for query in ("limit=0", "limit=1001", "skip=-1", "skip=9999999999999"):
        assert (await alice.get(f"{CAS}/?{query}")).status_code == 422


async def test_grants(alice: httpx2.AsyncClient, stand_in: StandIn) -> None:
    shown = {"ca_id": 5, "user_id": 9, "capabilities": ["create_cert"]}
    put = await alice.put(f"{CAS}/5/grants/9", json={"capabilities": ["create_cert"]})
    assert put.status_code == 200
    assert {name: put.json()[name] for name in shown} == shown
    (sent,) = stand_in.heard_of(PutGrant)
    assert (sent.user_id, sent.user_organization_id) == (9, 7)
    (listed,) = (await alice.get(f"{CAS}/5/grants/")).json()
    assert {name: listed[name] for name in shown} == shown
    assert (await alice.delete(f"{CAS}/5/grants/9")).status_code == 204
    for body in ({}, {"capabilities": ["manage_grants"]}, {"capabilities": ["read"] * 9}):
        assert (await alice.put(f"{CAS}/5/grants/9", json=body)).status_code == 422


@pytest.mark.parametrize(
    ("path", "name", "content"),
    [
        ("ca/5/certificate", "ca_5_certificate.pem", CA.certificate_pem),
        ("ca/5/private-key", "ca_5_private_key.pem", WITH_KEY.private_key_pem),
        ("certificate/9/chain", "certificate_9_chain.pem", "one\ntwo\n"),
    ],
)
async def test_files(alice: httpx2.AsyncClient, path: str, name: str, content: str) -> None:
    for slash in ("", "/"):
        answer = await alice.get(f"{EXPORT}/{path}{slash}")
        assert answer.status_code == 200
        assert answer.text == content
        assert answer.headers["content-type"] == "application/x-pem-file"
        assert answer.headers["content-disposition"] == f"attachment; filename={name}"
        assert answer.headers["cache-control"] == "no-store"


async def test_a_key_that_is_not_here_is_no_file(
    alice: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.answers[GetCaPrivateKey] = CaWithKey(ca=CA, private_key_pem=None)
    answer = await alice.get(f"{EXPORT}/ca/5/private-key")
    assert answer.status_code == 404
    stand_in.answers[GetCaPrivateKey] = CertwireError(ErrorCode.CONFLICT, "stays in its token")
    answer = await alice.get(f"{EXPORT}/ca/5/private-key")
    assert (answer.status_code, answer.json()) == (409, {"detail": "stays in its token"})
