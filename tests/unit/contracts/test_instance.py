"""Commands of the instance service: what they refuse by form, and what they name."""

from uuid import UUID

import pytest
from pydantic import ValidationError

from contracts.instance import (
    BootstrapCertificate,
    CreateInstance,
    GetInstance,
    ListInstances,
    RefreshSecrets,
    RenewCertificate,
)
from contracts.messages import PAGE_LIMIT, Call
from contracts.principal import ANONYMOUS

CALL = Call(request_id="r", deadline=0)
ID = UUID("01938a4e-0000-7000-8000-000000000001")


@pytest.mark.parametrize("limit", [0, -1, PAGE_LIMIT + 1])
def test_a_page_fits_into_one_message(limit: int) -> None:
    with pytest.raises(ValidationError):
        ListInstances(call=CALL, principal=ANONYMOUS, limit=limit)


def test_a_refusal_names_the_instance() -> None:
    assert GetInstance(call=CALL, principal=ANONYMOUS, instance_id=ID).audit_object() == (
        "instance",
        str(ID),
    )
    renew = RenewCertificate(
        call=CALL, instance_id=ID, credential=None, csr_pem="", wg_public_key=""
    )
    assert renew.audit_object() == ("instance", str(ID))


def test_reading_has_no_action_and_changing_has_one() -> None:
    assert GetInstance.ACTION is None
    assert ListInstances.ACTION is None
    assert CreateInstance.ACTION == "instance_create"
    assert RefreshSecrets.ACTION is not None  # it hands out secrets


def test_secrets_are_not_in_the_repr() -> None:
    create = CreateInstance(
        call=CALL,
        principal=ANONYMOUS,
        name="n",
        wg_public_key="k",
        vpn_ip="10.0.0.1",
        agent_secrets={"password": "hunter2"},
    )
    bootstrap = BootstrapCertificate(
        call=CALL, instance_id=ID, token="hunter2", csr_pem="", wg_public_key=""
    )
    assert "hunter2" not in repr(create) + repr(bootstrap)
