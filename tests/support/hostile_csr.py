"""CSRs that are broken, weak or greedy, and the DER by hand that no library would write."""

import base64
import math
import secrets
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from shared.clock import utc_now
from tests.support.csr import Key, csr_pem, new_key

LABEL = "CERTIFICATE REQUEST"
RSA = bytes.fromhex("300d06092a864886f70d0101010500")  # rsaEncryption
SIGN_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")  # sha256WithRSAEncryption
SHA256_DIGEST = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017 section 9.2
SAN = ObjectIdentifier("2.5.29.17")
PRIME_BITS = 1024


def pem(data: bytes, label: str = LABEL) -> str:
    """Return DER in PEM."""
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


def der(csr: str) -> bytes:
    """Return what a CSR in PEM holds."""
    return x509.load_pem_x509_csr(csr.encode()).public_bytes(Encoding.DER)


def _tlv(tag: int, *parts: bytes) -> bytes:
    """Return a DER value of up to 64 kB."""
    body = b"".join(parts)
    if len(body) < 128:
        return bytes((tag, len(body))) + body
    return bytes((tag, 0x82)) + len(body).to_bytes(2) + body


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1))


# --- RSA of every size --------------------------------------------------------------------------


@cache
def _primes(count: int) -> tuple[int, ...]:
    """Return primes of 1024 bits: many make as large a modulus as two that take minutes to find."""
    found: list[int] = []
    while len(found) < count:
        numbers = rsa.generate_private_key(65537, 2 * PRIME_BITS).private_numbers()
        found += [numbers.p, numbers.q]
    return tuple(found[:count])


def rsa_csr(bits: int, exponent: int = 65537) -> str:
    """Return a CSR for an RSA key of about `bits`, with a signature that verifies."""
    primes = _primes(bits // PRIME_BITS)
    modulus = math.prod(primes)
    size = (modulus.bit_length() + 7) // 8

    def sign(info: bytes) -> bytes:
        digest = SHA256_DIGEST + sha256(info).digest()
        padded = int.from_bytes(b"\0\1".ljust(size - len(digest) - 1, b"\xff") + b"\0" + digest)
        signature = 0
        for prime in primes:  # by the Chinese remainder theorem
            root = pow(padded, pow(exponent, -1, prime - 1), prime)
            signature += root * (modulus // prime) * pow(modulus // prime, -1, prime)
        return (signature % modulus).to_bytes(size)

    return rsa_assembled(modulus, exponent, sign)


def rsa_assembled(
    modulus: int, exponent: int, sign: Callable[[bytes], bytes], version: int = 0
) -> str:
    """Return a CSR for an RSA key, whatever it is worth."""
    key = _tlv(0x30, _integer(modulus), _integer(exponent))
    public_key = _tlv(0x30, RSA, _tlv(0x03, b"\0" + key))
    info = _tlv(0x30, _integer(version), _tlv(0x30), public_key, _tlv(0xA0))
    return pem(_tlv(0x30, info, SIGN_RSA, _tlv(0x03, b"\0" + sign(info))))


# --- Invalid ones -------------------------------------------------------------------------------


def _of_another_key() -> str:
    """Return a CSR in which another key stands than the one that signed it."""
    mine, theirs = new_key(), new_key()
    before, after = (
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for key in (mine, theirs)
    )
    return pem(der(csr_pem(mine)).replace(before, after))


def _altered() -> str:
    data = bytearray(der(csr_pem()))
    data[-1] ^= 1
    return pem(bytes(data))


def _dsa() -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whoever")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = builder.sign(dsa.generate_private_key(2048), hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


def _certificate() -> bytes:
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whoever")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(utc_now())
        .not_valid_after(utc_now() + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.DER)


def _unsigned(_info: bytes) -> bytes:
    return bytes(256)


def _inserted(csr: str, text: str, line: int = 1) -> str:
    lines = csr.splitlines(keepends=True)
    return "".join([*lines[:line], text, *lines[line:]])


INVALID: dict[str, Callable[[], str]] = {
    # what is no PEM
    "an empty block": lambda: f"-----BEGIN {LABEL}-----\n-----END {LABEL}-----\n",
    "a beginning": lambda: f"-----BEGIN {LABEL}-----",
    "no end": lambda: csr_pem().partition("-----END")[0],
    "an end of another kind": lambda: csr_pem().replace(f"END {LABEL}", "END CERTIFICATE"),
    "no base64": lambda: f"-----BEGIN {LABEL}-----\n!!!!\n-----END {LABEL}-----\n",
    "digits of another script": lambda: _inserted(csr_pem(), "\u0661\u0662\u0663\n"),
    "NUL": lambda: _inserted(csr_pem(), "\0"),
    "a header": lambda: _inserted(csr_pem(), "Proc-Type: 4,ENCRYPTED\n\n"),
    "text before": lambda: "subject=CN = admin\n" + csr_pem(),
    "text after": lambda: csr_pem() + "; rm -rf /",
    "two": lambda: csr_pem() + csr_pem(),
    "ten": lambda: "".join(csr_pem() for _ in range(10)),
    "a private key too": lambda: csr_pem() + pem(b"\x30\x00", "PRIVATE KEY"),
    # what is no CSR
    "random bytes": lambda: pem(secrets.token_bytes(300)),
    "a certificate": lambda: pem(_certificate()),
    "half of it": lambda: pem(der(csr_pem())[:100]),
    "trailing data": lambda: pem(der(csr_pem()) + b"\0"),
    "another one behind it": lambda: pem(der(csr_pem()) * 2),
    "no end of lengths": lambda: pem(b"\x30\x80" * 1000),
    "a length beyond it": lambda: pem(b"\x30\x84\xff\xff\xff\xff" + bytes(100)),
    "another version": lambda: rsa_assembled(math.prod(_primes(2)), 65537, _unsigned, version=1),
    # what proves nothing
    "an altered signature": _altered,
    "an altered name": lambda: pem(der(csr_pem(common_name="agent:a")).replace(b":a", b":b")),
    "another's key": _of_another_key,
    "no signature": lambda: rsa_assembled(math.prod(_primes(2)), 65537, _unsigned),
    # what is weak, or another algorithm
    "RSA-1024": lambda: csr_pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - it is refused
    "RSA-16384": lambda: rsa_csr(16 * PRIME_BITS),
    "RSA with the exponent 3": lambda: csr_pem(rsa.generate_private_key(3, 2048)),
    "RSA with the exponent 1": lambda: rsa_assembled(math.prod(_primes(2)), 1, _unsigned),
    "RSA with an even exponent": lambda: rsa_assembled(math.prod(_primes(2)), 65538, _unsigned),
    "RSA with a prime as modulus": lambda: rsa_assembled(_primes(1)[0], 65537, _unsigned),
    "RSA with a modulus of zero": lambda: rsa_assembled(0, 65537, _unsigned),
    "P-224": lambda: csr_pem(ec.generate_private_key(ec.SECP224R1())),
    "secp256k1": lambda: csr_pem(ec.generate_private_key(ec.SECP256K1())),
    "brainpool": lambda: csr_pem(ec.generate_private_key(ec.BrainpoolP256R1())),
    "Ed448": lambda: csr_pem(ed448.Ed448PrivateKey.generate()),
    "DSA": _dsa,
}
"""What no certificate is made for, and what is refused with the same words."""


# --- Valid ones, that want too much ---------------------------------------------------------------

ADMIN_URI = x509.UniformResourceIdentifier("spiffe://certwire.internal/admin")
EVIL = [x509.UniformResourceIdentifier("http://evil.example.com/")]
ALL_USAGES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=True,
    key_encipherment=True,
    data_encipherment=True,
    key_agreement=True,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
GREEDY: dict[str, tuple[x509.ExtensionType, ...]] = {
    "a CA": (x509.BasicConstraints(ca=True, path_length=None), ALL_USAGES),
    "every purpose": (
        x509.ExtendedKeyUsage(
            [
                ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
                ExtendedKeyUsageOID.SERVER_AUTH,
                ExtendedKeyUsageOID.CODE_SIGNING,
                ExtendedKeyUsageOID.OCSP_SIGNING,
            ]
        ),
    ),
    "names of others": (
        x509.SubjectAlternativeName(
            [
                ADMIN_URI,
                x509.UniformResourceIdentifier("spiffe://certwire.internal/agent/other"),
                x509.DNSName("localhost"),
                x509.DNSName("*.example.com"),
                x509.RFC822Name("admin@example.com"),
            ]
        ),
    ),
    "others' keys": (
        x509.SubjectKeyIdentifier(bytes(20)),
        x509.AuthorityKeyIdentifier(bytes(20), None, None),
    ),
    "another CRL and OCSP": (
        x509.CRLDistributionPoints([x509.DistributionPoint(EVIL, None, None, None)]),
        x509.AuthorityInformationAccess(
            [x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP, EVIL[0])]
        ),
        x509.OCSPNoCheck(),
    ),
    "constraints": (
        x509.NameConstraints([x509.DNSName("example.com")], None),
        x509.PolicyConstraints(0, 0),
        x509.InhibitAnyPolicy(0),
    ),
    "what nobody knows": (x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"),),
    "names that cannot be read": (x509.UnrecognizedExtension(SAN, b"\x30\x84\xff\xff\xff\xff"),),
    "names without end": (
        x509.SubjectAlternativeName([x509.DNSName(f"{n}.example.com") for n in range(250)]),
    ),
}
"""What their extensions ask for; a certificate has nothing of it."""


def greedy(name: str, key: Key, common_name: str = "admin") -> str:
    """Return a CSR that asks for more than its profile gives."""
    return csr_pem(key, common_name, GREEDY[name])
