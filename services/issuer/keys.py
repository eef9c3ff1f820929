"""Private keys of certificate authorities and bundles."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Final, TypeAlias, assert_never

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class KeyAlgorithm(StrEnum):
    """The kinds of keys that the platform makes."""

    P256 = "p256"
    P384 = "p384"
    P521 = "p521"
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"


RSA_EXPONENT: Final = 65537
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


def generate(algorithm: KeyAlgorithm) -> PrivateKey:
    """Make a key; RSA takes up to seconds."""
    match algorithm:
        case KeyAlgorithm.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyAlgorithm.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyAlgorithm.P521:
            return ec.generate_private_key(ec.SECP521R1())
        case KeyAlgorithm.RSA2048 | KeyAlgorithm.RSA3072 | KeyAlgorithm.RSA4096:
            return rsa.generate_private_key(RSA_EXPONENT, int(algorithm.removeprefix("rsa")))
        case KeyAlgorithm.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
    assert_never(algorithm)


def signer(key: PrivateKey) -> Callable[[bytes], bytes]:
    """Return what signs as `encoding.signature_algorithm` says of the key."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return partial(_sign_ecdsa, key, ec.ECDSA(_HASHES[key.curve.name]))
    if isinstance(key, rsa.RSAPrivateKey):
        return partial(_sign_rsa, key)
    return key.sign


def _sign_ecdsa(key: ec.EllipticCurvePrivateKey, algorithm: ec.ECDSA, data: bytes) -> bytes:
    return key.sign(data, algorithm)


def _sign_rsa(key: rsa.RSAPrivateKey, data: bytes) -> bytes:
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def to_der(key: PrivateKey) -> bytes:
    """Return the key in the clear (PKCS #8), to be sealed at once."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def from_der(data: bytes) -> PrivateKey:
    """Return the key that `to_der` wrote. Raises ValueError."""
    return _supported(load_der_private_key(data, None))


def to_encrypted_pem(key: PrivateKey, passphrase: str) -> bytes:
    """Return the key encrypted under a passphrase (PKCS #8, PBES2)."""
    encryption = BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def from_encrypted_pem(data: bytes, passphrase: str) -> PrivateKey:
    """Return the key that `to_encrypted_pem` wrote. Raises ValueError, also for the passphrase."""
    return _supported(load_pem_private_key(data, passphrase.encode()))


def _supported(key: object) -> PrivateKey:
    if not isinstance(key, PrivateKey):
        raise ValueError("the key's algorithm is not supported")  # noqa: TRY004 - what is in a file
    return key
