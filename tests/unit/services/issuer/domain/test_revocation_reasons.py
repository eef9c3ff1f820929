import pytest

from contracts.certificates import RevocationReason
from services.issuer.domain.revocation_reasons import reason_of


@pytest.mark.parametrize(
    "text",
    ["Key compromise", "key_compromise", "keyCompromise", "KEY-COMPROMISE!", " key compromise."],
)
def test_case_spaces_and_punctuation_do_not_count(text: str) -> None:
    assert reason_of(text) is RevocationReason.KEY_COMPROMISE


@pytest.mark.parametrize("text", [None, "", "…", "lost the laptop", "certificate hold", "cle\0"])
def test_what_names_no_reason_is_unspecified(text: str | None) -> None:
    assert reason_of(text) is RevocationReason.UNSPECIFIED


def test_every_reason_has_a_name() -> None:
    for reason in RevocationReason:
        assert reason_of(reason) is reason
