"""Keys and CSRs: what is ours to sign, what is weak or broken, and how long finding out takes."""

import base64
import math
import time
from collections.abc import Callable
from functools import cache
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import CertwireError, ErrorCode
from shared.x509 import (
    CSR_LIMIT_BYTES,
    bundle,
    check_public_key,
    fingerprint,
    parse_csr,
    public_key_der,
    serial_hex,
)

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whoever")])
SHA256 = hashes.SHA256()
SMALL_PRIMES = [n for n in range(3, 168) if all(n % divisor for divisor in range(2, n))]
RSA = bytes.fromhex("300d06092a864886f70d0101010500")  # rsaEncryption
SIGN_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")  # sha256WithRSAEncryption
SHA256_DIGEST = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017 section 9.2


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(exponent, bits)


def builder() -> x509.CertificateSigningRequestBuilder:
    return x509.CertificateSigningRequestBuilder().subject_name(NAME)


@cache
def der() -> bytes:
    return (
        builder().sign(ec.generate_private_key(ec.SECP256R1()), SHA256).public_bytes(Encoding.DER)
    )


def pem(data: bytes, label: str = "CERTIFICATE REQUEST") -> str:
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


def tlv(tag: int, *parts: bytes) -> bytes:
    """Return a DER value of up to 64 kB."""
    body = b"".join(parts)
    if len(body) < 128:
        return bytes((tag, len(body))) + body
    return bytes((tag, 0x82)) + len(body).to_bytes(2) + body


def forged(key: rsa.RSAPublicKey) -> str:
    """Return a CSR for a key whose private half nobody has."""
    return assembled(spki(key), lambda _info: bytes((key.key_size + 7) // 8))


def assembled(key: bytes, sign: Callable[[bytes], bytes]) -> str:
    """Return a CSR that no library would write."""
    info = tlv(0x30, tlv(0x02, b"\0"), tlv(0x30), key, tlv(0xA0))
    return pem(tlv(0x30, info, SIGN_RSA, tlv(0x03, b"\0" + sign(info))))


def integer(number: int) -> bytes:
    return tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def spki(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def modulus_of(bits: int) -> int:
    """Return an odd number without small factors that no other check knows."""
    number = (1 << bits) - 1
    while any(number % prime == 0 for prime in range(3, 200)):
        number -= 2
    return number


def multiple_of(number: int) -> int:
    """Return the first with 2048 bits."""
    return -(-(1 << 2047) // number) * number


def reason(text: str) -> str:
    with pytest.raises(CertwireError) as caught:
        parse_csr(text)
    assert caught.value.code is ErrorCode.INVALID_CSR
    return caught.value.detail


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        rsa_key,
        lambda: rsa_key(2056),
        lambda: rsa_key(3072),
        lambda: rsa_key(4096),
    ],
    ids=["P-256", "P-384", "P-521", "RSA-2048", "RSA-2056", "RSA-3072", "RSA-4096"],
)
def test_accepts_the_usual_keys(
    make: Callable[[], ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey],
) -> None:
    key = make()
    request = parse_csr(builder().sign(key, SHA256).public_bytes(Encoding.PEM).decode())
    assert request.public_key == key.public_key()
    assert request.public_key_der == public_key_der(key.public_key())


def test_accepts_ed25519() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    request = parse_csr(builder().sign(key, None).public_bytes(Encoding.PEM).decode())
    assert request.public_key == key.public_key()


def test_two_requests_for_one_key_share_its_hash() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    requests = [
        parse_csr(builder().sign(key, algorithm).public_bytes(Encoding.PEM).decode())
        for algorithm in (SHA256, hashes.SHA384())
    ]
    assert len({request.public_key_sha256 for request in requests}) == 1


@pytest.mark.parametrize(
    "shape",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: f"\n \t{text}\n\n",
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
    ],
)
def test_accepts_the_shapes_that_tools_give_a_pem_block(shape: Callable[[str], str]) -> None:
    assert parse_csr(shape(pem(der()))).csr.subject == NAME


@pytest.mark.parametrize(
    "shape",
    [
        lambda _text: "",
        lambda _text: pem(b""),
        lambda text: "Subject: CN=whoever\n" + text,
        lambda text: text + "signed by me\n",
        lambda text: text + text,
        lambda text: text.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        lambda text: text.replace("CERTIFICATE REQUEST", "PRIVATE KEY"),
        lambda text: text.replace("-----BEGIN", "Proc-Type: 4,ENCRYPTED\n-----BEGIN"),
        lambda text: text.replace("REQUEST-----\n", "REQUEST-----\nKey: value\n\n", 1),
        lambda text: text.replace("\n", "\x0b"),
        lambda text: text + "\0",
        lambda text: text + "\ud800",
        lambda text: text.replace("M", "\uff2d"),
        lambda _text: der().decode("latin-1"),
    ],
)
def test_refuses_anything_but_one_pem_block(shape: Callable[[str], str]) -> None:
    assert reason(shape(pem(der()))) == "the CSR is not one PEM block"


@pytest.mark.parametrize(
    "shape",
    [
        lambda text: text.replace("=", ""),
        lambda text: text.replace("BEGIN ", "BEGIN NEW ", 1),
        lambda _text: pem(der() + b"\0"),
        lambda _text: pem(der()[:-1]),
        lambda _text: pem(b"\x30\x80" + der()),
    ],
)
def test_refuses_a_block_that_cannot_be_read(shape: Callable[[str], str]) -> None:
    text = shape(pem(der()))
    if text != pem(der()):
        assert reason(text) == "the CSR cannot be read"


def test_refuses_a_csr_that_is_too_large() -> None:
    assert reason(pem(der()) + " " * CSR_LIMIT_BYTES) == "the CSR is too large"
    names = x509.SubjectAlternativeName([x509.DNSName(f"{n:060}.example") for n in range(200)])
    large = builder().add_extension(names, critical=False)
    signed = large.sign(ec.generate_private_key(ec.SECP256R1()), SHA256)
    assert reason(signed.public_bytes(Encoding.PEM).decode()) == "the CSR is too large"


def test_refuses_a_signature_that_was_tampered_with() -> None:
    altered = bytearray(der())
    altered[-1] ^= 1
    assert "signature" in reason(pem(bytes(altered)))


def test_refuses_a_name_that_was_tampered_with() -> None:
    altered = der().replace(b"whoever", b"someone")
    assert reason(pem(altered)) == "the CSR's signature does not verify"


def test_refuses_a_csr_that_another_key_signed() -> None:
    mine, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    signed = builder().sign(mine, SHA256).public_bytes(Encoding.DER)
    replaced = signed.replace(
        public_key_der(mine.public_key()), public_key_der(theirs.public_key())
    )
    assert reason(pem(replaced)) == "the CSR's signature does not verify"


@pytest.mark.parametrize(
    "curve",
    [ec.SECP256K1(), ec.BrainpoolP256R1(), ec.SECP224R1(), ec.SECP192R1()],
    ids=lambda curve: curve.name,
)
def test_refuses_other_curves(curve: ec.EllipticCurve) -> None:
    text = (
        builder().sign(ec.generate_private_key(curve), SHA256).public_bytes(Encoding.PEM).decode()
    )
    assert reason(text) == "the key's curve is not supported"


def test_refuses_other_algorithms() -> None:
    unsigned = "the key's algorithm is not supported"
    for key in (ed448.Ed448PrivateKey.generate(), mldsa.MLDSA65PrivateKey.generate()):
        assert reason(builder().sign(key, None).public_bytes(Encoding.PEM).decode()) == unsigned
    old = dsa.generate_private_key(2048)
    assert reason(builder().sign(old, SHA256).public_bytes(Encoding.PEM).decode()) == unsigned


@pytest.mark.parametrize("bits", [1024, 2040])
def test_refuses_small_rsa_keys(bits: int) -> None:
    text = builder().sign(rsa_key(bits), SHA256).public_bytes(Encoding.PEM).decode()
    assert reason(text) == "an RSA key has 2048 to 8192 bits"


def test_refuses_a_small_rsa_exponent() -> None:
    text = builder().sign(rsa_key(2048, 3), SHA256).public_bytes(Encoding.PEM).decode()
    assert reason(text) == "the RSA exponent is even or below 65537"


@pytest.mark.parametrize("exponent", [0, 1, 2, 4, 65536, 65538])
def test_refuses_an_even_rsa_exponent(exponent: int) -> None:
    """The library refuses to hold them: they are written by hand."""
    numbers = tlv(0x30, integer(modulus_of(2048)), integer(exponent))
    assert reason(assembled(tlv(0x30, RSA, tlv(0x03, b"\0" + numbers)), lambda _info: bytes(256)))


def test_refuses_primes_that_are_close() -> None:
    """CVE-2022-26320: the second prime was the next one after the first."""
    p = rsa_key().private_numbers().p
    q = next_prime(p)
    d = pow(65537, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(65537, p * q)
    )
    text = builder().sign(numbers.private_key(), SHA256).public_bytes(Encoding.PEM).decode()
    assert reason(text) == "the RSA key's primes are too close"


@pytest.mark.parametrize("distance", [0, 2, 1 << 100, 1 << 516])
def test_refuses_factors_that_can_be_found(distance: int) -> None:
    """They need not be prime: the modulus alone is looked at."""
    factor = without_small_factors(3 << 1022)
    modulus = factor * without_small_factors(factor + distance)
    text = forged(rsa.RSAPublicNumbers(65537, modulus).public_key())
    assert reason(text) == "the RSA key's primes are too close"


def test_factors_that_cannot_be_found_pass() -> None:
    factor = without_small_factors(3 << 1022)
    key = rsa.RSAPublicNumbers(65537, factor * without_small_factors(factor + (1 << 530)))
    check_public_key(key.public_key())


def without_small_factors(number: int) -> int:
    number |= 1
    while math.gcd(number, math.prod(SMALL_PRIMES)) > 1:
        number += 2
    return number


def next_prime(number: int) -> int:
    number += 2
    while (
        any(number % small == 0 for small in range(3, 2000, 2)) or pow(2, number - 1, number) != 1
    ):
        number += 2
    return number


def test_refuses_a_modulus_of_the_flawed_generator() -> None:
    """CVE-2017-15361."""
    modulus = multiple_of(2 * math.prod(SMALL_PRIMES)) + 1  # 1 is a power of 65537 for each
    key = rsa.RSAPublicNumbers(65537, modulus).public_key()
    assert reason(forged(key)) == "the RSA key comes from a flawed generator (ROCA)"


@pytest.mark.parametrize("factor", [2, 3, 5, 167])
def test_refuses_a_modulus_with_a_small_factor(factor: int) -> None:
    modulus = multiple_of(2 * factor) + factor  # odd but for 2 itself
    key = rsa.RSAPublicNumbers(65537, modulus).public_key()
    assert reason(forged(key)) == "the RSA modulus has a small factor"


@pytest.mark.parametrize("bits", [8193, 16_000])
def test_refuses_a_key_that_is_larger_than_what_it_protects(bits: int) -> None:
    key = rsa.RSAPublicNumbers(65537, modulus_of(bits)).public_key()
    assert reason(forged(key)) == "an RSA key has 2048 to 8192 bits"


def test_good_keys_pass() -> None:
    for _ in range(3):
        check_public_key(rsa.generate_private_key(65537, 2048).public_key())


@pytest.mark.parametrize("exponent", [65537, 2**2047 + 1], ids=["usual", "huge"])
@pytest.mark.parametrize("bits", [2048, 3072, 4096, 8192])
def test_the_answer_takes_a_bounded_time(bits: int, exponent: int) -> None:
    """A CSR is checked in the event loop: 0.1 s of CPU is 10 times what the slowest takes."""
    text = forged(rsa.RSAPublicNumbers(exponent, modulus_of(bits)).public_key())
    took = []
    for _ in range(3):
        began = time.thread_time()
        reason(text)
        took.append(time.thread_time() - began)
    assert min(took) < 0.1


def test_the_largest_key_is_taken_in_a_bounded_time() -> None:
    """Two primes of that size take a minute to find; many small ones make as large a modulus."""
    pairs = [rsa_primes() for _ in range(8)]
    primes = [prime for pair in pairs for prime in pair]
    modulus = math.prod(primes)
    size = (modulus.bit_length() + 7) // 8

    def sign(info: bytes) -> bytes:
        digest = SHA256_DIGEST + sha256(info).digest()
        padded = int.from_bytes(b"\0\1".ljust(size - len(digest) - 1, b"\xff") + b"\0" + digest)
        signature = 0
        for prime in primes:  # by the Chinese remainder theorem
            root = pow(padded, pow(65537, -1, prime - 1), prime)
            signature += root * (modulus // prime) * pow(modulus // prime, -1, prime)
        return (signature % modulus).to_bytes(size)

    key = rsa.RSAPublicNumbers(65537, modulus).public_key()
    assert 8100 < key.key_size <= 8192
    text = assembled(spki(key), sign)
    began = time.thread_time()
    assert parse_csr(text).public_key == key
    assert time.thread_time() - began < 0.1


def rsa_primes() -> tuple[int, int]:
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - a quick source of primes
    numbers = small.private_numbers()
    return numbers.p, numbers.q


def test_rubbish_takes_a_bounded_time() -> None:
    began = time.thread_time()
    for text in (
        " " * 16_000,
        "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 16_000,
        "-----BEGIN CERTIFICATE REQUEST-----\n" * 400,
        "-----BEGIN CERTIFICATE REQUEST-----\n" + "\n" * 16_000 + "-----END",
        pem(b"\x30\x80" * 5_000),
    ):
        reason(text)
    assert time.thread_time() - began < 1


@cache
def seeds() -> tuple[bytes, ...]:
    """Return CSRs to spoil."""
    names = x509.SubjectAlternativeName([x509.DNSName("a.example")])
    named = builder().add_extension(names, critical=False)
    signed = (
        named.sign(ec.generate_private_key(ec.SECP256R1()), SHA256),
        named.sign(ed25519.Ed25519PrivateKey.generate(), None),
        named.sign(rsa_key(), SHA256),
    )
    return tuple(one.public_bytes(Encoding.DER) for one in signed)


def taken_or_refused(text: str) -> None:
    """Let any other error through, a panic of the library too.

    Not all that was altered is refused: the unused bits of a signature's BIT STRING are free.
    """
    try:
        request = parse_csr(text)
    except CertwireError as error:
        if error.code is not ErrorCode.INVALID_CSR:
            raise
    else:
        check_public_key(request.public_key)


@settings(max_examples=300)
@given(
    st.integers(0, 2),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_whatever_is_altered_nothing_but_a_refusal_comes_out(
    seed: int, changes: list[tuple[int, int]]
) -> None:
    altered = bytearray(seeds()[seed])
    for position, value in changes:
        altered[position % len(altered)] = value
    taken_or_refused(pem(bytes(altered)))


@given(st.integers(0, 2), st.integers(0, 2000), st.integers(0, 20), st.binary(max_size=20))
def test_whatever_is_cut_or_added_nothing_but_a_refusal_comes_out(
    seed: int, at: int, cut: int, added: bytes
) -> None:
    whole = seeds()[seed]
    at %= len(whole)
    taken_or_refused(pem(whole[:at] + added + whole[at + cut :]))


@given(st.binary(max_size=300))
def test_any_bytes_in_a_block_are_refused(data: bytes) -> None:
    reason(pem(data))


def test_refuses_a_version_that_does_not_exist() -> None:
    """The library's error for it is of no family (RFC 2986 section 4.1: v1 is 0)."""
    unknown = der().replace(b"\x02\x01\x00", b"\x02\x01\x05", 1)
    assert reason(pem(unknown)) == "the CSR cannot be read"


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    reason(text)


def test_names_and_numbers_are_printed_as_they_are_stored() -> None:
    assert fingerprint(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert serial_hex(0x0AB) == "ab"
    assert bundle(["a\n", "b", "c\n\n"]) == "a\nb\nc\n"
    assert bundle([]) == ""
