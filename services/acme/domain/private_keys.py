"""Private keys that somebody hands us: which of them a TLS server may have."""

from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from contracts.errors import CertwireError
from services.acme.domain.pem import UNREADABLE, Block, UnfitError, blocks
from shared.x509 import check_public_key

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

KEY_OCTETS: Final = 8192
"""Of a key in DER; the largest that is accepted, RSA with 8192 bits, has 4.7 kB."""
SUPPORTED: Final = "it has to be RSA, P-256, P-384, P-521 or Ed25519"
NOT_PEM: Final = "Private key is not valid PEM"
DAMAGED: Final = "Private key is damaged"

_LABELS: Final = {"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"}
"""PKCS #8, PKCS #1 and SEC 1."""
_PROBE: Final = b"what a private key signs, its public key verifies"


def read_private_key(text: str) -> PrivateKey:
    """Return the one private key in a text. Raises UnfitError."""
    try:
        found = [block for block in blocks(text) if "PRIVATE KEY" in block.label]
    except ValueError as error:
        raise UnfitError(NOT_PEM) from error
    if len(found) != 1:
        raise UnfitError("There is more than one private key" if found else NOT_PEM)
    key = _loaded(_der(found[0]))
    try:
        check_public_key(key.public_key())
    except CertwireError as error:
        raise UnfitError(f"Private key is refused: {error.detail}") from error
    if not _is_consistent(key):
        raise UnfitError(DAMAGED)
    return key


def pkcs8_pem(key: PrivateKey) -> str:
    """Return the key in PKCS #8 (RFC 5958), in the clear."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _der(block: Block) -> bytes:
    # RFC 1421 section 4.6.1.1: what openssl writes into the block of an encrypted key of old
    if block.label == "ENCRYPTED PRIVATE KEY" or "ENCRYPTED" in block.body:
        raise UnfitError("Private key is encrypted: it has to be without a passphrase")
    if block.label not in _LABELS:
        raise UnfitError("Private key is not in PKCS #8, PKCS #1 or SEC 1")
    try:
        der = block.der()
    except ValueError as error:
        raise UnfitError(NOT_PEM) from error
    if len(der) > KEY_OCTETS:
        raise UnfitError("Private key is too large")
    return der


def _loaded(der: bytes) -> PrivateKey:
    try:
        # Else OpenSSL would test an RSA key's primes: large ones, that an attacker chose, for hours
        key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    except UNREADABLE as error:
        raise UnfitError(f"Private key cannot be read: {SUPPORTED}") from error
    if not isinstance(
        key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    ):
        raise UnfitError(f"Private key is of another kind: {SUPPORTED}")
    return key


def _is_consistent(key: PrivateKey) -> bool:
    """Return whether the key's parts belong together, by using them."""
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            if not _parts_fit(key.private_numbers()):
                return False
            signature = key.sign(_PROBE, padding.PKCS1v15(), hashes.SHA256())
            key.public_key().verify(signature, _PROBE, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            signature = key.sign(_PROBE, ec.ECDSA(hashes.SHA256()))
            key.public_key().verify(signature, _PROBE, ec.ECDSA(hashes.SHA256()))
        else:
            key.public_key().verify(key.sign(_PROBE), _PROBE)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def _parts_fit(numbers: rsa.RSAPrivateNumbers) -> bool:
    """Return whether the parts of an RSA key fit (RFC 8017 section 3.2), but for primality."""
    p, q, d, e = numbers.p, numbers.q, numbers.d, numbers.public_numbers.e
    return (
        p * q == numbers.public_numbers.n
        and min(p, q) > 2  # noqa: PLR2004 - the only even prime
        and d * e % (p - 1) == 1
        and d * e % (q - 1) == 1
        and numbers.dmp1 == d % (p - 1)
        and numbers.dmq1 == d % (q - 1)
        and numbers.iqmp * q % p == 1
    )
