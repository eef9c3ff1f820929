"""What a CA signs, and when it does not."""

from datetime import timedelta

import pytest

from contracts.errors import CertwireError, ErrorCode
from services.issuer.authority import Authority, new_serial
from services.issuer.domain.profiles import ADMIN, INSTANCE, PLATFORM_KINDS
from services.issuer.keys import KeyAlgorithm
from shared.x509 import public_key_der
from tests.unit.services.issuer.builders import (
    CA_ALGORITHMS,
    LEAVES,
    NOW,
    PUBLIC_URL,
    Hierarchy,
    key_of,
    loaded,
    sign,
)


@pytest.mark.parametrize("algorithm", CA_ALGORITHMS)
def test_its_signature_verifies(algorithm: KeyAlgorithm) -> None:
    chain = Hierarchy(algorithm)
    leaf = loaded(sign(chain.authority, ADMIN, LEAVES[ADMIN], key_of(KeyAlgorithm.P256)))
    leaf.verify_directly_issued_by(loaded(chain.issuing))
    loaded(chain.issuing).verify_directly_issued_by(loaded(chain.root))


def test_a_serial_has_sixteen_octets() -> None:
    serials = {new_serial() for _ in range(1000)}
    assert len(serials) == 1000
    assert {serial.bit_length() for serial in serials} == {127}


def test_refuses_the_key_of_another_certificate() -> None:
    chain = Hierarchy(KeyAlgorithm.P256)
    with pytest.raises(ValueError, match="not the one of its certificate"):
        Authority.open(
            loaded(chain.issuing), "slug", key_of(KeyAlgorithm.P384), PLATFORM_KINDS, PUBLIC_URL
        )


def test_signs_nothing_after_its_end() -> None:
    chain = Hierarchy(KeyAlgorithm.P256)
    der = public_key_der(key_of(KeyAlgorithm.P256).public_key())
    now = chain.issuing.not_after + timedelta(seconds=1)
    with pytest.raises(CertwireError) as refused:
        chain.authority.sign(INSTANCE, LEAVES[INSTANCE], der, serial=1, now=now)
    assert refused.value.code is ErrorCode.CA_CANNOT_SIGN


def test_shortens_what_would_outlive_it() -> None:
    chain = Hierarchy(KeyAlgorithm.P256)
    der = public_key_der(key_of(KeyAlgorithm.P256).public_key())
    now = chain.issuing.not_after - timedelta(hours=1)
    certificate = chain.authority.sign(INSTANCE, LEAVES[INSTANCE], der, serial=1, now=now)
    assert certificate.not_after == chain.issuing.not_after


def test_a_key_that_fails_is_a_ca_that_cannot_sign() -> None:
    authority = Hierarchy(KeyAlgorithm.P256).authority

    def fail(_data: bytes) -> bytes:
        raise RuntimeError("the token was pulled out")

    authority._sign = fail
    with pytest.raises(CertwireError) as refused:
        sign(authority, ADMIN, LEAVES[ADMIN], key_of(KeyAlgorithm.P256))
    assert refused.value.code is ErrorCode.CA_CANNOT_SIGN
    assert "token" not in refused.value.detail


def test_what_it_signs_is_dated_by_its_argument() -> None:
    certificate = sign(
        Hierarchy(KeyAlgorithm.P256).authority, ADMIN, LEAVES[ADMIN], key_of(KeyAlgorithm.P256)
    )
    assert NOW - timedelta(seconds=60) < certificate.not_before < NOW
