"""Every outcome has its status, and only what a specification prints is a 500."""

import pytest

from contracts.errors import CertwireError, ErrorCode
from services.gateway.dialects.instance import AdministrationRoute, CallRoute
from services.gateway.refusals import PLATFORM_TROUBLE, REFUSALS, Refusals, described
from services.gateway.shapes import Detail, FastapiShape, ProblemShape, Shape

OF_A_CA = {ErrorCode.CA_CANNOT_SIGN, ErrorCode.CA_UNAVAILABLE}
"""Of a CA, ours or a public one."""
TABLES = [REFUSALS, CallRoute.refusals, AdministrationRoute.refusals]


@pytest.mark.parametrize("refusals", TABLES)
def test_every_code_has_a_refusal(refusals: Refusals) -> None:
    assert set(refusals) == set(ErrorCode)


@pytest.mark.parametrize("refusals", TABLES)
def test_a_5xx_is_ours(refusals: Refusals) -> None:
    for code, refusal in refusals.items():
        ours = code in PLATFORM_TROUBLE or code in OF_A_CA
        assert (refusal.status >= 500) == ours, code


@pytest.mark.parametrize("shape", [FastapiShape(), ProblemShape()])
@pytest.mark.parametrize("code", ErrorCode)
def test_trouble_never_explains_itself(shape: Shape, code: ErrorCode) -> None:
    error = CertwireError(code, "an internal detail", retry_after_seconds=7)
    answer = shape.refused(error, REFUSALS[code], "the-id")
    assert answer.status_code == REFUSALS[code].status
    assert answer.status_code == 422 or answer.headers["retry-after"] == "7"
    if code in PLATFORM_TROUBLE:
        assert b"internal detail" not in answer.body
        assert b"the-id" in answer.body


def test_texts_of_one_status_are_documented_together() -> None:
    found = described(REFUSALS, [ErrorCode.TOKEN_USED, ErrorCode.TOKEN_EXPIRED], Detail)
    assert found[401]["description"] == "Token was used; Token has expired"
    assert {500, 503, 504} <= set(found)
