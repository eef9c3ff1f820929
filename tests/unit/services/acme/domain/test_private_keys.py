"""Keys that are handed to us: all that TLS servers use, in every form that programs write."""

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from services.acme.domain.pem import UnfitError
from services.acme.domain.private_keys import pkcs8_pem, read_private_key
from tests.support.programs import output_of
from tests.unit.services.acme.authorities import Key, key_pem, new_key, rsa_key
from tests.unit.services.acme.domain.test_pem import block
from tests.unit.services.issuer.weak_keys import CLOSE_PRIMES, ROCA

KEYS: dict[str, Key] = {
    "rsa": rsa_key(),
    "p256": new_key(),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
OPENSSL = {
    "rsa": ["genrsa", "-traditional", "2048"],
    "rsa-pkcs8": ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "ec": ["ecparam", "-name", "secp384r1", "-genkey"],  # with a block of its parameters before it
    "ec-pkcs8": ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ed25519": ["genpkey", "-algorithm", "ed25519"],
    "ed25519-text": ["genpkey", "-algorithm", "ed25519", "-text"],
}
PKCS8 = (Encoding.PEM, PrivateFormat.PKCS8)
RAW = (Encoding.Raw, PrivateFormat.Raw)
MERSENNE = 19_937
"""2 to this power, less 1, is a prime that everybody knows."""


def refusal(text: str) -> str:
    with pytest.raises(UnfitError) as refused:
        read_private_key(text)
    return str(refused.value)


def same(one: Key, other: Key) -> bool:
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return one.public_key().public_bytes(*form) == other.public_key().public_bytes(*form)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_reads_every_kind_in_every_form(name: str, form: PrivateFormat) -> None:
    key = KEYS[name]
    if name == "ed25519":
        form = PrivateFormat.PKCS8  # it has no other
    text = key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()
    read = read_private_key(f"Bag Attributes\n  friendlyName: ours\n{text}and so on")
    assert same(read, key)
    assert pkcs8_pem(read).startswith("-----BEGIN PRIVATE KEY-----\n")
    assert same(read_private_key(pkcs8_pem(read)), key)


@pytest.mark.parametrize("words", OPENSSL.values(), ids=OPENSSL)
async def test_reads_what_openssl_writes(words: list[str], tmp_path: Path) -> None:
    written = await output_of("openssl", *words)
    (tmp_path / "key.pem").write_text(pkcs8_pem(read_private_key(written)))
    (tmp_path / "openssl.pem").write_text(written)
    public = [
        await output_of("openssl", "pkey", "-pubout", "-in", tmp_path / name)
        for name in ("key.pem", "openssl.pem")
    ]
    assert public[0] == public[1]


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_told_from_a_broken_one(form: PrivateFormat) -> None:
    text = KEYS["rsa"].private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"p")).decode()
    assert refusal(text) == "Private key is encrypted: it has to be without a passphrase"


@pytest.mark.parametrize(
    "text", ["", "MIIE", "-----BEGIN PRIVATE KEY-----\nMIIE...\n-----END PRIVATE KEY-----"]
)
def test_what_is_no_pem_is_called_so(text: str) -> None:
    assert refusal(text) == "Private key is not valid PEM"


def test_a_public_key_or_a_certificate_is_no_private_key() -> None:
    assert refusal(block("PUBLIC KEY", bytes(9))) == "Private key is not valid PEM"
    assert refusal(block("CERTIFICATE", bytes(9))) == "Private key is not valid PEM"


def test_one_key_is_one_key() -> None:
    text = key_pem(KEYS["p256"])
    assert refusal(text + text) == "There is more than one private key"


def test_openssh_has_a_format_of_its_own() -> None:
    text = KEYS["ed25519"].private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    assert refusal(text.decode()) == "Private key is not in PKCS #8, PKCS #1 or SEC 1"


@pytest.mark.parametrize(
    "key",
    [
        ed448.Ed448PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(),
        dsa.generate_private_key(2048),
    ],
    ids=["ed448", "x25519", "dsa"],
)
def test_keys_that_no_tls_server_uses_are_refused(
    key: ed448.Ed448PrivateKey | x25519.X25519PrivateKey | dsa.DSAPrivateKey,
) -> None:
    text = key.private_bytes(*PKCS8, NoEncryption()).decode()
    assert refusal(text) == (
        "Private key is of another kind: it has to be RSA, P-256, P-384, P-521 or Ed25519"
    )


async def test_keys_to_agree_on_are_of_another_kind() -> None:
    words = ["genpkey", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048"]
    assert refusal(await output_of("openssl", *words)).startswith("Private key cannot be read")


def test_an_edwards_key_of_another_length_is_refused() -> None:
    raw = KEYS["ed25519"].private_bytes(*RAW, NoEncryption())
    inner = element(0x04, element(0x04, raw + b"x"))
    der = element(0x30, integer(0) + bytes.fromhex("300506032b6570") + inner)
    assert refusal(block("PRIVATE KEY", der)).startswith("Private key cannot be read")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (rsa_key(1024), "an RSA key has 2048 to 8192 bits"),
        (rsa.generate_private_key(3, 2048), "the RSA exponent is even or below 65537"),
        (ROCA, "the RSA key comes from a flawed generator (ROCA)"),
        (CLOSE_PRIMES, "the RSA key's primes are too close"),
        (ec.generate_private_key(ec.SECP256K1()), "the key's curve is not supported"),
        (ec.generate_private_key(ec.SECP224R1()), "the key's curve is not supported"),
    ],
)
def test_weak_keys_are_refused_by_the_platforms_rules(key: Key, reason: str) -> None:
    assert refusal(key_pem(key)) == f"Private key is refused: {reason}"


# --- Keys that were tampered with -----------------------------------------------------------------


def integer(number: int) -> bytes:
    return element(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def element(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 128:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + body


def pkcs1(*numbers: int) -> str:
    """Return an RSAPrivateKey (RFC 8017 appendix A.1.2): n, e, d, p, q, dp, dq, qi."""
    return block("RSA PRIVATE KEY", element(0x30, b"".join(map(integer, (0, *numbers)))))


def parts(key: rsa.RSAPrivateKey) -> list[int]:
    private = key.private_numbers()
    public = private.public_numbers
    return [
        public.n,
        public.e,
        private.d,
        private.p,
        private.q,
        private.dmp1,
        private.dmq1,
        private.iqmp,
    ]


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("change", [1, 2, -2])
def test_an_rsa_key_whose_parts_do_not_fit_is_refused(place: int, change: int) -> None:
    numbers = parts(rsa_key())
    assert same(read_private_key(pkcs1(*numbers)), rsa_key())
    numbers[place] += change
    assert refusal(pkcs1(*numbers)).startswith(
        ("Private key is damaged", "Private key is refused", "Private key cannot be read")
    )


def test_zeros_and_ones_are_no_primes() -> None:
    n, e, d, *_ = parts(rsa_key())
    for p, q in ((1, n), (n, 1), (0, 0), (2, n)):
        assert refusal(pkcs1(n, e, d, p, q, 1, 1, 1)) in {
            "Private key is damaged",
            "Private key cannot be read: it has to be RSA, P-256, P-384, P-521 or Ed25519",
        }


def test_factors_that_are_no_primes_sign_nothing() -> None:
    p, q = 3 * (2**1024 + 643), 2**1024 + 1035
    e = 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    made = pkcs1(p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    assert refusal(made).startswith(("Private key is damaged", "Private key is refused"))


def test_a_large_prime_costs_no_time() -> None:
    """OpenSSL's own check of this key takes minutes."""
    p, q = 2**MERSENNE - 1, 2**61 - 1
    n = p * q
    began = time.monotonic()
    assert "8192 bits" in refusal(pkcs1(n, 65537, 3, p, q, 1, 1, 1))
    assert time.monotonic() - began < 5
    assert refusal(block("RSA PRIVATE KEY", bytes(9000))) == "Private key is too large"


@given(st.data())
def test_mutated_keys_are_refused_or_keys(data: st.DataObject) -> None:
    key = KEYS[data.draw(st.sampled_from(sorted(KEYS)))]
    form = data.draw(st.sampled_from([PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        form = PrivateFormat.PKCS8
    der = bytearray(key.private_bytes(Encoding.DER, form, NoEncryption()))
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = read_private_key(block("PRIVATE KEY", bytes(der)))
    except UnfitError:
        return
    assert pkcs8_pem(read)
