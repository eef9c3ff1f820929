"""`GET /api/v1/certificates/search`, beside the fastpki dialect."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx2
import pytest

from contracts.certificates import CertificateKind, RevocationReason
from contracts.errors import CertwireError, ErrorCode
from contracts.pki import (
    CertificatePage,
    CertificateStatus,
    CertificateView,
    KeyType,
    SearchCertificates,
)
from contracts.principal import Principal, PrincipalKind, Role
from services.gateway.app import Gateway
from shared.secrets import token_hash
from tests.support.stand_in import StandIn, client

PATH = "/api/v1/certificates/search"
ALICE = Principal(kind=PrincipalKind.USER, id="7", name="alice", role=Role.USER, organization_id=3)
NOON = datetime(2026, 4, 19, 12, tzinfo=UTC)
FOUND = CertificateView(
    id=42,
    common_name="api.example.com",
    subject_dn="CN=api.example.com",
    subject_alternative_names=("DNS:api.example.com",),
    certificate_type=CertificateKind.SERVER,
    key_type=KeyType.RSA,
    key_size=2048,
    valid_days=365,
    status=CertificateStatus.REVOKED,
    certificate_pem="-----BEGIN CERTIFICATE-----\n",
    fingerprint="f" * 64,
    serial_hex="1f",
    not_before=NOON,
    not_after=NOON,
    revoked_at=NOON,
    revocation_reason=RevocationReason.KEY_COMPROMISE,
    revocation_detail="Key compromise",
    issuer_id=1,
    organization_id=3,
    created_by_user_id=7,
    created_at=NOON,
    updated_at=NOON,
)


@pytest.fixture
async def alice(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    stand_in.know(token_hash("alice"), ALICE)
    stand_in.answers[SearchCertificates] = CertificatePage(
        certificates=(FOUND,), next_cursor="onwards"
    )
    async with client(gateway, stand_in.authority) as connection:
        connection.headers["Authorization"] = "Bearer alice"
        yield connection


@pytest.mark.parametrize("path", [PATH, f"{PATH}/"])
async def test_a_page_holds_certificates_as_the_dialect_has_them(
    alice: httpx2.AsyncClient, stand_in: StandIn, path: str
) -> None:
    answer = await alice.get(path)
    assert answer.status_code == 200
    body = answer.json()
    assert body["next_cursor"] == "onwards"
    (found,) = body["certificates"]
    assert found["id"] == 42
    assert found["certificate"] == FOUND.certificate_pem
    assert (found["serial_number"], found["status"]) == ("1f", "revoked")
    assert {"not_after", "issuer_id", "organization_id", "created_by_user_id"} <= found.keys()
    (sent,) = stand_in.heard_of(SearchCertificates)
    assert (sent.actor, sent.limit, sent.cursor) == (ALICE, 100, None)


async def test_every_condition_reaches_the_service(
    alice: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    fingerprint = ":".join(["AB"] * 32)
    conditions = {
        "common_name": "API*",
        "san": "10.0.0.42",
        "serial": "00:1F:ab",
        "fingerprint": fingerprint,
        "status": "expired",
        "certificate_type": "dual_purpose",
        "issuer_id": "1",
        "organization_id": "3",
        "expires_after": "2026-04-19",
        "expires_before": "2026-04-19T14:00:00+02:00",
        "cursor": "there",
        "limit": "500",
    }
    assert (await alice.get(PATH, params=conditions)).status_code == 200
    (sent,) = stand_in.heard_of(SearchCertificates)
    assert sent.model_dump(exclude={"call", "actor"}) == {
        "common_name": "API*",
        "san": "10.0.0.42",
        "serial_hex": "1fab",
        "fingerprint": "ab" * 32,
        "status": "expired",
        "certificate_type": "dual_purpose",
        "issuer_id": 1,
        "organization_id": 3,
        "expires_after": NOON.replace(hour=0),
        "expires_before": NOON,
        "cursor": "there",
        "limit": 500,
    }


@pytest.mark.parametrize(("text", "serial"), [("0", "0"), ("00:00", "0"), ("0A", "a")])
async def test_a_serial_is_a_number(
    alice: httpx2.AsyncClient, stand_in: StandIn, text: str, serial: str
) -> None:
    assert (await alice.get(PATH, params={"serial": text})).status_code == 200
    assert stand_in.heard_of(SearchCertificates)[0].serial_hex == serial


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("common_name", ""),
        ("common_name", "*"),
        ("common_name", "a\x00*"),
        ("common_name", "a" * 10_000),
        ("san", ""),
        ("san", "DNS:\x00"),
        ("san", "a" * 10_000),
        ("serial", ""),
        ("serial", "0x1f"),
        ("serial", "f" * 41),
        ("serial", "1" * 10_000),
        ("serial", "\u0661"),
        ("fingerprint", "ab"),
        ("fingerprint", "g" * 64),
        ("fingerprint", "\x00" * 64),
        ("status", "doubtful"),
        ("certificate_type", "root"),
        ("issuer_id", "0"),
        ("issuer_id", str(2**63)),
        ("organization_id", "-1"),
        ("organization_id", "9" * 10_000),
        ("expires_after", "0001-01-01T00:00:00+14:00"),
        ("expires_before", "9999-12-31T23:59:59-14:00"),
        ("expires_before", "soon"),
        ("cursor", "x" * 513),
        ("limit", "0"),
        ("limit", "501"),
    ],
)
async def test_what_nothing_can_be_looked_up_by_is_422(
    alice: httpx2.AsyncClient, stand_in: StandIn, name: str, value: str
) -> None:
    answer = await alice.get(PATH, params={name: value})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["query", name]
    assert not stand_in.heard_of(SearchCertificates)


async def test_refusals_are_the_dialects(alice: httpx2.AsyncClient, stand_in: StandIn) -> None:
    stand_in.answers[SearchCertificates] = CertwireError(
        ErrorCode.INVALID_REQUEST, "the cursor is not one of this list"
    )
    assert (await alice.get(PATH)).status_code == 422
    for headers in ({"Authorization": "Bearer nobody"}, {"Authorization": ""}):
        assert (await alice.get(PATH, headers=headers)).status_code == 401
