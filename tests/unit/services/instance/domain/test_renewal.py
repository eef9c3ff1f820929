"""Tests of services.instance.domain.renewal: each error at its place in the order of checks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import InstanceStatus
from services.instance.domain.renewal import (
    CertificateFacts,
    InstanceFacts,
    Presented,
    explain,
    identify,
    require_running,
)

NOW = datetime(2026, 4, 19, 12, tzinfo=UTC)
KEY = bytes(range(32))
CSR_KEY = "c" * 64
CLAIM_LIFETIME = timedelta(seconds=30)
INSTANCE = InstanceFacts(
    id="i1",
    name="web",
    status=InstanceStatus.RUNNING,
    wg_public_key=KEY,
    vpn_ip="10.0.0.1",
    current_fingerprint="f1",
    renewed_at=NOW - timedelta(seconds=100),
    claim_pending=False,
    failing_since=None,
    failures=0,
)
CERTIFICATE = CertificateFacts(
    instance_id="i1",
    fingerprint="f1",
    expires_at=NOW + timedelta(hours=1),
    revoked=False,
    superseded_by=None,
)
PRESENTED = Presented(
    now=NOW,
    instance=INSTANCE,
    certificate=CERTIFICATE,
    successor_public_key_sha256=None,
    wg_public_key=KEY,
)
SUPERSEDED = replace(
    PRESENTED,
    instance=replace(INSTANCE, current_fingerprint="f2"),
    certificate=replace(CERTIFICATE, revoked=True, superseded_by="f2"),
    successor_public_key_sha256=CSR_KEY,
)


def _error(presented: Presented, csr_key: str | None = CSR_KEY) -> CertwireError:
    with pytest.raises(CertwireError) as raised:
        explain(presented, csr_key, 60, CLAIM_LIFETIME)
    return raised.value


# Faults in the order of the checks: each must win over all that come after it.
FAULTS: list[tuple[str, ErrorCode]] = [
    ("unknown", ErrorCode.CREDENTIAL_REFUSED),
    ("expired", ErrorCode.CREDENTIAL_REFUSED),
    ("revoked", ErrorCode.CREDENTIAL_REFUSED),
    ("no instance", ErrorCode.NOT_FOUND),
    ("other instance", ErrorCode.IDENTITY_MISMATCH),
    ("not current", ErrorCode.IDENTITY_MISMATCH),
    ("wireguard", ErrorCode.IDENTITY_MISMATCH),
    ("stopped", ErrorCode.INSTANCE_NOT_RUNNING),
    ("attempts", ErrorCode.RATE_LIMITED),
    ("csr", ErrorCode.INVALID_CSR),
    ("recent", ErrorCode.RATE_LIMITED),
]


CERTIFICATE_FAULTS: dict[str, dict[str, Any]] = {
    "expired": {"expires_at": NOW},
    "revoked": {"revoked": True},
    "other instance": {"instance_id": "i2"},
}
INSTANCE_FAULTS: dict[str, dict[str, Any]] = {
    "not current": {"current_fingerprint": "f9"},
    "stopped": {"status": InstanceStatus.STOPPED},
    "attempts": {"failing_since": NOW - timedelta(minutes=1), "failures": 60},
}


def _with(fault: str, presented: Presented) -> Presented:
    certificate, instance = presented.certificate, presented.instance
    match fault:
        case "unknown":
            return replace(presented, certificate=None)
        case "no instance":
            return replace(presented, instance=None)
        case "wireguard":
            return replace(presented, wg_public_key=None)
    if certificate is not None:
        certificate = replace(certificate, **CERTIFICATE_FAULTS.get(fault, {}))
    if instance is not None:
        instance = replace(instance, **INSTANCE_FAULTS.get(fault, {}))
    return replace(presented, certificate=certificate, instance=instance)


@pytest.mark.parametrize("position", range(len(FAULTS)), ids=[fault for fault, _ in FAULTS])
def test_the_first_fault_in_order_is_answered(position: int) -> None:
    presented = PRESENTED
    for fault, _ in FAULTS[position:]:
        presented = _with(fault, presented)
    names = [fault for fault, _ in FAULTS[position:]]
    error = _error(presented, None if "csr" in names else CSR_KEY)
    assert error.code is FAULTS[position][1]


def test_says_when_the_hour_is_over() -> None:
    assert _error(PRESENTED).retry_after_seconds == 3500


def test_says_to_come_back_after_a_claim_under_way() -> None:
    pending = replace(INSTANCE, renewed_at=None, claim_pending=True)
    assert _error(replace(PRESENTED, instance=pending)).retry_after_seconds == 30


def test_failed_attempts_are_forgotten_after_an_hour() -> None:
    instance = replace(INSTANCE, failing_since=NOW - timedelta(hours=1), failures=60)
    assert _error(replace(PRESENTED, instance=instance), None).code is ErrorCode.INVALID_CSR


def test_the_superseded_certificate_gets_the_last_answer_for_the_same_key() -> None:
    assert explain(SUPERSEDED, CSR_KEY, 60, CLAIM_LIFETIME).id == "i1"


@pytest.mark.parametrize("csr_key", ["d" * 64, None])
def test_the_superseded_certificate_gets_nothing_for_another_key(csr_key: str | None) -> None:
    assert _error(SUPERSEDED, csr_key).code is ErrorCode.CREDENTIAL_REFUSED


def test_the_superseded_certificate_ends_at_its_own_end() -> None:
    assert SUPERSEDED.certificate is not None
    ended = replace(SUPERSEDED, certificate=replace(SUPERSEDED.certificate, expires_at=NOW))
    assert _error(ended).code is ErrorCode.CREDENTIAL_REFUSED


def test_the_superseded_certificate_is_nobody_elsewhere() -> None:
    with pytest.raises(CertwireError) as refused:
        identify(SUPERSEDED)
    assert refused.value.code is ErrorCode.CREDENTIAL_REFUSED


def test_a_retry_of_a_stopped_instance_is_refused() -> None:
    stopped = replace(INSTANCE, status=InstanceStatus.STOPPED, current_fingerprint="f2")
    assert _error(replace(SUPERSEDED, instance=stopped)).code is ErrorCode.INSTANCE_NOT_RUNNING


def test_identifies_the_current_certificate() -> None:
    require_running(identify(PRESENTED))
