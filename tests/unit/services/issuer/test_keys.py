"""Keys at rest, and what they sign."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.issuer import keys
from services.issuer.keys import KeyAlgorithm
from tests.unit.services.issuer.builders import CA_ALGORITHMS, key_of


@pytest.mark.parametrize("algorithm", CA_ALGORITHMS)
def test_a_key_comes_back_as_it_went(algorithm: KeyAlgorithm) -> None:
    key = key_of(algorithm)
    sealed = keys.to_encrypted_pem(key, "passphrase")
    assert b"ENCRYPTED" in sealed
    for again in (keys.from_der(keys.to_der(key)), keys.from_encrypted_pem(sealed, "passphrase")):
        assert again.public_key() == key.public_key()


def test_another_passphrase_does_not_open_a_key() -> None:
    sealed = keys.to_encrypted_pem(key_of(KeyAlgorithm.P256), "passphrase")
    with pytest.raises(ValueError, match=r"\w"):
        keys.from_encrypted_pem(sealed, "another")


def test_other_kinds_of_key_are_refused() -> None:
    key = ed448.Ed448PrivateKey.generate()
    data = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="not supported"):
        keys.from_der(data)


@pytest.mark.parametrize(
    ("algorithm", "bits"), [(KeyAlgorithm.RSA2048, 2048), (KeyAlgorithm.RSA3072, 3072)]
)
def test_an_rsa_key_has_the_bits_of_its_name(algorithm: KeyAlgorithm, bits: int) -> None:
    key = key_of(algorithm)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == bits
