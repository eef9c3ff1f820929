"""Commands of the issuer: who may have what signed, and the bounds of a batch."""

from uuid import UUID

import pytest
from pydantic import ValidationError

from contracts.issuer import (
    RevokeInstanceCertificates,
    SignAdminCertificate,
    SignAgentCertificate,
    SignInstanceCertificate,
    VoidInstanceClaims,
)
from contracts.messages import PAGE_LIMIT, Call
from contracts.principal import ANONYMOUS
from contracts.subjects import Service

CALL = Call(request_id="r", deadline=0)
ID = UUID("01938a4e-0000-7000-8000-000000000001")


def test_only_the_owner_of_a_kind_has_it_signed() -> None:
    assert {Service.INSTANCE} == SignInstanceCertificate.CALLERS
    assert {Service.REGISTRY} == SignAdminCertificate.CALLERS
    assert {Service.REGISTRY} == SignAgentCertificate.CALLERS


def test_a_csr_has_a_bound() -> None:
    with pytest.raises(ValidationError):
        SignInstanceCertificate(
            call=CALL, claim_id=ID, actor=ANONYMOUS, csr_pem="x" * 16_385, instance_id=ID
        )


@pytest.mark.parametrize("count", [0, PAGE_LIMIT + 1])
def test_a_batch_has_one_to_a_page_of_members(count: int) -> None:
    with pytest.raises(ValidationError):
        VoidInstanceClaims(call=CALL, claim_ids=(ID,) * count)
    with pytest.raises(ValidationError):
        RevokeInstanceCertificates.model_validate({"call": CALL, "revocations": [{}] * count})


def test_the_record_of_a_refusal_names_the_claim() -> None:
    assert VoidInstanceClaims(call=CALL, claim_ids=(ID,)).audit_object() == ("claim", str(ID))
