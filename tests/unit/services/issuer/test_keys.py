"""Keys at rest, and what they sign."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import KeyType
from services.issuer import keys
from services.issuer.keys import KeyAlgorithm, key_spec
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


@pytest.mark.parametrize("name", ["p256", "p521", "rsa2048", "rsa6144", "rsa8192", "ed25519"])
def test_an_algorithm_has_one_name(name: str) -> None:
    assert str(KeyAlgorithm.parse(name)) == name


@pytest.mark.parametrize("name", ["", "p255", "rsa", "rsa1024", "rsa2049", "rsa8200", "ed448"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        KeyAlgorithm.parse(name)


@pytest.mark.parametrize(
    ("key_type", "key_size", "algorithm"),
    [
        (KeyType.RSA, None, KeyAlgorithm.RSA4096),
        (KeyType.RSA, 2048, KeyAlgorithm.RSA2048),
        (KeyType.EC, None, KeyAlgorithm.P256),
        (KeyType.EC, 384, KeyAlgorithm.P384),
        (KeyType.ED25519, None, KeyAlgorithm.ED25519),
        (KeyType.ED25519, 256, KeyAlgorithm.ED25519),
    ],
)
def test_a_request_without_a_size_gets_the_usual_one(
    key_type: KeyType, key_size: int | None, algorithm: KeyAlgorithm
) -> None:
    assert key_spec(key_type, key_size, 4096) == algorithm


@pytest.mark.parametrize(
    ("key_type", "key_size"),
    [
        (KeyType.RSA, 1024),
        (KeyType.RSA, 2047),
        (KeyType.RSA, 8200),
        (KeyType.RSA, -2048),
        (KeyType.EC, 2048),
        (KeyType.ED25519, 2048),
    ],
)
def test_a_size_that_a_type_has_not_is_refused(key_type: KeyType, key_size: int) -> None:
    with pytest.raises(CertwireError) as refused:
        key_spec(key_type, key_size, 2048)
    assert refused.value.code is ErrorCode.INVALID_REQUEST
