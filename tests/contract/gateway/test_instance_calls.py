"""What instances call: renew, refresh and bootstrap, to the letter of the specification."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import (
    AgentSecrets,
    BootstrapCertificate,
    RefreshSecrets,
    RenewCertificate,
)
from contracts.principal import CredentialKind
from services.gateway.app import Gateway
from tests.contract.gateway.messages import (
    BOOTSTRAP,
    BOOTSTRAP_BODY,
    CSR,
    INSTANCE,
    INSTANCES,
    REFRESH,
    REFRESH_BODY,
    RENEW,
    RENEW_BODY,
    SIGNED,
)
from tests.support.authority import Leaf
from tests.support.stand_in import StandIn, client

RENEWED = {
    "cert_pem": SIGNED.certificate_pem,
    "cert_serial": "1f",
    "expires_at": "2026-04-19T12:00:00Z",
}
NOT_THEM = "Invalid mTLS cert or identity verification failed"


@pytest.fixture
def leaf(stand_in: StandIn) -> Leaf:
    return stand_in.authority.client()


@pytest.fixture
async def instance(
    gateway: Gateway, stand_in: StandIn, leaf: Leaf
) -> AsyncIterator[httpx2.AsyncClient]:
    """Call with the instance's certificate."""
    stand_in.says(
        {
            RenewCertificate: SIGNED,
            BootstrapCertificate: SIGNED,
            RefreshSecrets: AgentSecrets(agent_secrets={"api_key": "k", "deep": [{"ü": 1.5}]}),
        }
    )
    async with client(gateway, stand_in.authority, leaf) as connection:
        yield connection


async def test_renews_with_the_certificate_of_the_connection(
    instance: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    answer = await instance.post(RENEW, json=RENEW_BODY)
    assert (answer.status_code, answer.json()) == (200, RENEWED)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    (sent,) = stand_in.heard_of(RenewCertificate)
    assert sent.credential
    assert sent.credential.kind is CredentialKind.CERTIFICATE
    assert sent.credential.sha256 == leaf.sha256
    assert str(sent.instance_id) == INSTANCE
    assert (sent.csr_pem, sent.wg_public_key) == (CSR, "string")
    assert sent.call.request_id == answer.headers["x-request-id"]
    assert sent.call.source_address == "127.0.0.1"


async def test_refreshes_secrets(instance: httpx2.AsyncClient, stand_in: StandIn) -> None:
    answer = await instance.post(REFRESH, json=REFRESH_BODY)
    assert answer.status_code == 200
    assert answer.json() == {"agent_secrets": {"api_key": "k", "deep": [{"ü": 1.5}]}}
    (sent,) = stand_in.heard_of(RefreshSecrets)
    assert (sent.vpn_ip, sent.wg_public_key) == ("10.8.0.2", "string")


@pytest.mark.usefixtures("instance")
async def test_bootstraps_with_a_token_and_no_certificate(
    gateway: Gateway, stand_in: StandIn
) -> None:
    async with client(gateway, stand_in.authority) as anybody:
        answer = await anybody.post(BOOTSTRAP, json=BOOTSTRAP_BODY)
    assert (answer.status_code, answer.json()) == (200, RENEWED)
    (sent,) = stand_in.heard_of(BootstrapCertificate)
    assert sent.token == BOOTSTRAP_BODY["token"]


async def test_a_call_without_a_certificate_is_left_to_the_service(
    gateway: Gateway, stand_in: StandIn
) -> None:
    """The service answers it, at its place in the order of checks."""
    stand_in.answers[RenewCertificate] = CertwireError(ErrorCode.CREDENTIAL_MISSING)
    async with client(gateway, stand_in.authority) as anybody:
        headers = {"Authorization": "Bearer of-a-superuser"}  # not for this route
        answer = await anybody.post(RENEW, json=RENEW_BODY, headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"detail": NOT_THEM})
    assert stand_in.heard_of(RenewCertificate)[0].credential is None


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (ErrorCode.CREDENTIAL_MISSING, 401, NOT_THEM),
        (ErrorCode.CREDENTIAL_REFUSED, 401, NOT_THEM),
        (ErrorCode.IDENTITY_MISMATCH, 401, NOT_THEM),
        (ErrorCode.NOT_FOUND, 404, "Instance not found"),
        (ErrorCode.INSTANCE_NOT_RUNNING, 409, "Instance not running"),
        (ErrorCode.INVALID_CSR, 400, "Invalid CSR"),
        (ErrorCode.CA_CANNOT_SIGN, 500, "CA error"),
    ],
)
async def test_errors_to_the_letter(
    instance: httpx2.AsyncClient, stand_in: StandIn, error: ErrorCode, status: int, detail: str
) -> None:
    """Whatever the service explains stays inside: which check failed is nobody's business."""
    refusal = CertwireError(error, "an explanation")
    stand_in.says({RenewCertificate: refusal, RefreshSecrets: refusal})
    for path, body in ((RENEW, RENEW_BODY), (REFRESH, REFRESH_BODY)):
        answer = await instance.post(path, json=body)
        assert (answer.status_code, answer.json()) == (status, {"detail": detail})
        assert answer.headers["x-request-id"]


async def test_the_rate_limit_says_when(instance: httpx2.AsyncClient, stand_in: StandIn) -> None:
    text = "Rate limit exceeded (1 renewal per hour)"
    stand_in.answers[RenewCertificate] = CertwireError(
        ErrorCode.RATE_LIMITED, text, retry_after_seconds=1234
    )
    answer = await instance.post(RENEW, json=RENEW_BODY)
    assert (answer.status_code, answer.json()) == (429, {"detail": text})
    assert answer.headers["retry-after"] == "1234"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ErrorCode.UNAVAILABLE, 503),
        (ErrorCode.OVERLOADED, 503),
        (ErrorCode.OUTCOME_UNKNOWN, 504),
        (ErrorCode.INTERNAL, 500),
    ],
)
async def test_trouble_of_the_platform_names_the_request_and_nothing_inside(
    instance: httpx2.AsyncClient, stand_in: StandIn, error: ErrorCode, status: int
) -> None:
    stand_in.answers[RenewCertificate] = CertwireError(error, "postgres at 10.0.0.1 is down")
    answer = await instance.post(RENEW, json=RENEW_BODY)
    assert answer.status_code == status
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "postgres" not in answer.text


async def test_a_service_that_breaks_is_a_500_without_a_word(
    instance: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    async def breaks(_command: RenewCertificate) -> Any:  # noqa: ANN401 - it never returns
        raise ZeroDivisionError("a secret")

    stand_in.answers[RenewCertificate] = breaks
    answer = await instance.post(RENEW, json=RENEW_BODY)
    assert answer.status_code == 500
    assert "secret" not in answer.text


async def test_the_schema_is_checked_before_anybody_is_asked(
    gateway: Gateway, stand_in: StandIn
) -> None:
    """Without a certificate, on an instance that nobody knows: still 422."""
    async with client(gateway, stand_in.authority) as anybody:
        for path in (RENEW, REFRESH, BOOTSTRAP):
            answer = await anybody.post(path, json={})
            assert answer.status_code == 422, path
            for issue in answer.json()["detail"]:
                assert set(issue) == {"loc", "msg", "type"}
    assert not stand_in.heard_of(RenewCertificate)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"csr_pem": "c" * 99, "wg_public_key": "k"}, ["body", "csr_pem"]),
        ({"csr_pem": "c" * 10_001, "wg_public_key": "k"}, ["body", "csr_pem"]),
        ({"csr_pem": CSR}, ["body", "wg_public_key"]),
        ({"csr_pem": CSR, "wg_public_key": 7}, ["body", "wg_public_key"]),
        ({"csr_pem": [CSR], "wg_public_key": "k"}, ["body", "csr_pem"]),
        ([], ["body"]),
        ("text", ["body"]),
        (None, ["body"]),
    ],
)
async def test_an_invalid_renewal_says_where(
    instance: httpx2.AsyncClient, body: object, where: list[str]
) -> None:
    answer = await instance.post(RENEW, json=body)
    assert answer.status_code == 422
    assert [issue["loc"] for issue in answer.json()["detail"]] == [where]


async def test_a_renewal_takes_a_csr_of_100_to_10000_characters(
    instance: httpx2.AsyncClient,
) -> None:
    for length in (100, 10_000):
        body = {"csr_pem": "c" * length, "wg_public_key": "k"}
        assert (await instance.post(RENEW, json=body)).status_code == 200


@pytest.mark.parametrize(
    "vpn_ip",
    [
        "10.999.1.1",
        "11.0.0.1",
        "10.0.0.1\n",
        "10.0.0",
        "10.\u0660.0.1",
        "10.01.1.1",
        " 10.0.0.1",
        "string",
    ],
)
async def test_an_address_that_is_none_is_422(instance: httpx2.AsyncClient, vpn_ip: str) -> None:
    answer = await instance.post(REFRESH, json={**REFRESH_BODY, "vpn_ip": vpn_ip})
    assert answer.status_code == 422
    assert [issue["loc"] for issue in answer.json()["detail"]] == [["body", "vpn_ip"]]


@pytest.mark.parametrize("name", ["x", "497f6eca", "..%2f..", "%00", "497f6eca-6276-4993-bfeb"])
async def test_a_path_without_a_uuid_is_422(instance: httpx2.AsyncClient, name: str) -> None:
    answer = await instance.post(f"{INSTANCES}/{name}/cert/renew", json=RENEW_BODY)
    assert answer.status_code in {404, 422}
    if answer.status_code == 422:
        assert answer.json()["detail"][0]["loc"] == ["path", "instance_id"]


async def test_a_repeat_is_recognised_by_key_credential_and_request(
    gateway: Gateway, instance: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    headers = {"Idempotency-Key": "7"}
    for body in (RENEW_BODY, RENEW_BODY, {**RENEW_BODY, "wg_public_key": "other"}):
        await instance.post(RENEW, json=body, headers=headers)
    async with client(gateway, stand_in.authority, stand_in.authority.client()) as other:
        await other.post(RENEW, json=RENEW_BODY, headers=headers)
    first, second, third, fourth = (
        command.call.idempotency for command in stand_in.heard_of(RenewCertificate)
    )
    assert first
    assert third
    assert fourth
    assert first == second
    assert (first.scope, first.key) == (leaf.sha256, "7")
    assert first.request != third.request
    assert first.scope != fourth.scope


async def test_a_bootstraps_key_belongs_to_its_token(
    instance: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    await instance.post(BOOTSTRAP, json=BOOTSTRAP_BODY, headers={"Idempotency-Key": "7"})
    (sent,) = stand_in.heard_of(BootstrapCertificate)
    assert sent.call.idempotency
    assert sent.call.idempotency.scope == hashlib.sha256(b"t" * 43).hexdigest()


@pytest.mark.parametrize("key", ["", "k" * 256, "with space", "é"])
async def test_a_key_that_cannot_be_kept_is_422(instance: httpx2.AsyncClient, key: str) -> None:
    answer = await instance.post(RENEW, json=RENEW_BODY, headers={b"Idempotency-Key": key.encode()})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
