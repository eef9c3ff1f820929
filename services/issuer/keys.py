"""Private keys of certificate authorities and bundles."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, Protocol, TypeAlias, assert_never

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

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import KeyType
from shared.x509 import PublicKey

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

RSA_EXPONENT: Final = 65537
RSA_BITS: Final = (2048, 8192)
"""The rulings' smallest and largest modulus; whole octets only."""
CURVES: Final[dict[int, ec.EllipticCurve]] = {
    256: ec.SECP256R1(),
    384: ec.SECP384R1(),
    521: ec.SECP521R1(),
}
_NAME: Final = re.compile(r"(?P<type>rsa|p)(?P<size>\d{1,5})|ed25519")
HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class KeyAlgorithm:
    """A kind of key that the platform makes; in words `rsa2048`, `p256`, `ed25519`."""

    key_type: KeyType
    key_size: int

    P256: ClassVar["KeyAlgorithm"]
    P384: ClassVar["KeyAlgorithm"]
    P521: ClassVar["KeyAlgorithm"]
    RSA2048: ClassVar["KeyAlgorithm"]
    RSA3072: ClassVar["KeyAlgorithm"]
    RSA4096: ClassVar["KeyAlgorithm"]
    ED25519: ClassVar["KeyAlgorithm"]

    @classmethod
    def parse(cls, name: str) -> "KeyAlgorithm":
        """Return what a name stands for. Raises ValueError."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise ValueError("a key is of p256, p384, p521, rsa2048 to rsa8192, or ed25519")
        if found["type"] is None:
            return cls.ED25519
        key_type = KeyType.RSA if found["type"] == "rsa" else KeyType.EC
        return _checked(key_type, int(found["size"]))

    def __str__(self) -> str:
        if self.key_type is KeyType.ED25519:
            return str(self.key_type)
        return f"{'rsa' if self.key_type is KeyType.RSA else 'p'}{self.key_size}"


KeyAlgorithm.P256 = KeyAlgorithm(KeyType.EC, 256)
KeyAlgorithm.P384 = KeyAlgorithm(KeyType.EC, 384)
KeyAlgorithm.P521 = KeyAlgorithm(KeyType.EC, 521)
KeyAlgorithm.RSA2048 = KeyAlgorithm(KeyType.RSA, 2048)
KeyAlgorithm.RSA3072 = KeyAlgorithm(KeyType.RSA, 3072)
KeyAlgorithm.RSA4096 = KeyAlgorithm(KeyType.RSA, 4096)
KeyAlgorithm.ED25519 = KeyAlgorithm(KeyType.ED25519, 256)


def key_spec(key_type: KeyType, key_size: int | None, default_rsa_bits: int) -> KeyAlgorithm:
    """Return what a request asks for; without a size, the type's own. Raises `INVALID_REQUEST`."""
    if key_size is None:
        key_size = default_rsa_bits if key_type is KeyType.RSA else 256
    try:
        return _checked(key_type, key_size)
    except ValueError as error:
        raise CertwireError(ErrorCode.INVALID_REQUEST, str(error)) from None


def _checked(key_type: KeyType, key_size: int) -> KeyAlgorithm:
    least, most = RSA_BITS
    match key_type:
        case KeyType.RSA:
            if not least <= key_size <= most or key_size % 8:
                raise ValueError(f"an RSA key has {least} to {most} bits, in whole octets")
        case KeyType.EC:
            if key_size not in CURVES:
                raise ValueError("an EC key has 256, 384 or 521 bits")
        case KeyType.ED25519:
            if key_size != KeyAlgorithm.ED25519.key_size:
                raise ValueError("an Ed25519 key has 256 bits")
        case _:
            assert_never(key_type)
    return KeyAlgorithm(key_type, key_size)


def generate(algorithm: KeyAlgorithm) -> PrivateKey:
    """Make a key; RSA takes up to minutes (see `key_pool.Keys.take`)."""
    match algorithm.key_type:
        case KeyType.EC:
            return ec.generate_private_key(CURVES[algorithm.key_size])
        case KeyType.RSA:
            return rsa.generate_private_key(RSA_EXPONENT, algorithm.key_size)
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
    assert_never(algorithm.key_type)


class SigningKey(Protocol):
    """A key that signs as `encoding.signature_algorithm` says of it, wherever it is."""

    def public_key(self) -> PublicKey: ...
    def sign(self, data: bytes) -> bytes: ...


def signer(key: PrivateKey | SigningKey) -> Callable[[bytes], bytes]:
    """Return what signs as `encoding.signature_algorithm` says of the key."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return partial(_sign_ecdsa, key, ec.ECDSA(HASHES[key.curve.name]))
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
    """Return the key that `to_der` wrote and a seal has kept whole. Raises ValueError.

    RSA's primes are not tested for being prime again: that takes as long as making them.
    """
    return _supported(load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True))


def to_pem(key: PrivateKey) -> str:
    """Return the key in the clear (PKCS #8), for whom it is made."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


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
