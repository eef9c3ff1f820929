"""Facts about keys, certificate signing requests and certificates."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts.errors import CertwireError, ErrorCode

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

RSA_BITS: Final = (2048, 8192)
"""Smallest: CA/Browser Forum BR 6.1.5. Largest: verifying costs more than it protects."""
RSA_LEAST_EXPONENT: Final = 65537
"""CA/Browser Forum BR 6.1.6."""
CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
FERMAT_ROUNDS: Final = 110
"""Boulder's number: finds primes that were chosen close to one another."""
CSR_LIMIT_BYTES: Final = 16_384

_PEM: Final = re.compile(
    rb"\s*-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----\r?\n"
    rb"[A-Za-z0-9+/=\r\n]+"
    rb"-----END (?:NEW )?CERTIFICATE REQUEST-----\s*"
)
# ROCA (CVE-2017-15361): moduli of the flawed generator are powers of 65537 modulo these primes.
_ROCA_PRIMES: Final = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip


def _powers(prime: int) -> frozenset[int]:
    members, value = set(), 1
    while value not in members:
        members.add(value)
        value = value * 65537 % prime
    return frozenset(members)


_ROCA_POWERS: Final = tuple((prime, _powers(prime)) for prime in _ROCA_PRIMES)


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A CSR whose structure, signature and key were checked (RFC 2986).

    `public_key_der` is the SubjectPublicKeyInfo in DER.
    """

    csr: x509.CertificateSigningRequest
    public_key: PublicKey
    public_key_der: bytes

    @property
    def public_key_sha256(self) -> str:
        """Return the hash that two requests for the same key share."""
        return hashlib.sha256(self.public_key_der).hexdigest()


def invalid_csr(reason: str) -> CertwireError:
    """Return the refusal of a CSR; the reason is for people."""
    return CertwireError(ErrorCode.INVALID_CSR, reason)


def parse_csr(pem: str) -> CertificateRequest:
    """Return a checked CSR. Raises `INVALID_CSR`.

    Exactly one PEM block and nothing around it; the signature proves possession of the key.
    """
    data = pem.encode(errors="replace")
    if len(data) > CSR_LIMIT_BYTES:
        raise invalid_csr("the CSR is too large")
    if not _PEM.fullmatch(data):
        raise invalid_csr("the CSR is not one PEM block")
    try:
        csr = x509.load_pem_x509_csr(data)
        key = csr.public_key()
        if not isinstance(
            key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
        ):
            raise invalid_csr("the key's algorithm is not supported")
        check_public_key(key)
        if not csr.is_signature_valid:
            raise invalid_csr("the CSR's signature does not verify")
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise invalid_csr("the CSR cannot be read") from error
    return CertificateRequest(csr, key, public_key_der(key))


def public_key_der(key: PublicKey) -> bytes:
    """Return the SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7)."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_public_key(key: PublicKey) -> None:
    """Refuse weak keys. Raises `INVALID_CSR`."""
    if isinstance(key, rsa.RSAPublicKey):
        _check_rsa(key)
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in CURVES:
        raise invalid_csr("the key's curve is not supported")


def _check_rsa(key: rsa.RSAPublicKey) -> None:
    numbers = key.public_numbers()
    if not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
        raise invalid_csr("an RSA key has 2048 to 8192 bits")
    if numbers.e < RSA_LEAST_EXPONENT or numbers.e % 2 == 0:
        raise invalid_csr("the RSA exponent is even or below 65537")
    if any(numbers.n % prime == 0 for prime in _ROCA_PRIMES) or numbers.n % 2 == 0:
        raise invalid_csr("the RSA modulus has a small factor")
    if all(numbers.n % prime in powers for prime, powers in _ROCA_POWERS):
        raise invalid_csr("the RSA key comes from a flawed generator (ROCA)")
    if _primes_are_close(numbers.n):
        raise invalid_csr("the RSA key's primes are too close")


def _primes_are_close(modulus: int) -> bool:
    """Try Fermat's factorisation: n = a² - b² for an a just above the root of n."""
    a = math.isqrt(modulus)
    a += a * a < modulus
    for _ in range(FERMAT_ROUNDS):
        square = a * a - modulus
        root = math.isqrt(square)
        if root * root == square:
            return True
        a += 1
    return False


def fingerprint(der: bytes) -> str:
    """Return the identity of a certificate: the SHA-256 of its whole DER in lower-case hex."""
    return hashlib.sha256(der).hexdigest()


def serial_hex(serial: int) -> str:
    """Return a serial number in lower-case hex without leading zeros."""
    return f"{serial:x}"


def bundle(certificates: Sequence[str]) -> str:
    """Return PEM certificates as one text, each ending in a line break."""
    return "".join(certificate.rstrip("\n") + "\n" for certificate in certificates)
