"""Uploads and issued certificates: what is served of them, and why what is refused is."""

import base64
import itertools
import re
import ssl
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.acme import PublicCertificate
from contracts.errors import CertwireError, ErrorCode
from services.acme.domain.material import Material, accept_issued, covers, read
from shared.x509 import fingerprint
from tests.support.programs import output_of
from tests.unit.services.acme.authorities import (
    DAY,
    DOMAIN,
    NOW,
    Ca,
    Hierarchy,
    Issued,
    Key,
    key_pem,
    named,
    new_key,
    pem,
    rsa_key,
    usage,
)

NO_MATCH = "Certificate and private key do not match"


def upload(
    *certificates: x509.Certificate, key: Key, domain: str | None = DOMAIN, now: datetime = NOW
) -> Material:
    return read(pem(*certificates), key_pem(key), domain, now)


def refusal(*certificates: x509.Certificate, key: Key, domain: str | None = DOMAIN) -> str:
    return said_of(pem(*certificates), key_pem(key), domain)


def said_of(certificates: str, key: str, domain: str | None = DOMAIN) -> str:
    with pytest.raises(CertwireError) as refused:
        read(certificates, key, domain, NOW)
    assert refused.value.code is ErrorCode.INVALID_CERTIFICATE
    return refused.value.detail


def alone(issued: Issued) -> str:
    """Return why a leaf without a chain is refused."""
    return refusal(issued.certificate, key=issued.key)


# --- What is kept ---------------------------------------------------------------------------------


def test_the_facts_are_the_leafs() -> None:
    made = Hierarchy("Api.Example.Com", "192.0.2.7", DOMAIN)
    material = upload(made.root, made.intermediate, made.leaf, key=made.key)
    der = made.leaf.public_bytes(Encoding.DER)
    assert material.leaf == made.leaf
    assert material.chain_pem == pem(made.leaf, made.intermediate)
    assert material.private_key_pem == key_pem(made.key)
    assert material.names == (DOMAIN, "192.0.2.7")
    assert (material.issuer_common_name, material.issuer_organization) == (
        "Example CA 1",
        "Example Trust",
    )
    assert material.issuer == "CN=Example CA 1,O=Example Trust"
    assert material.subject == "CN=Api.Example.Com"
    assert int(material.serial_hex, 16) == made.leaf.serial_number
    assert material.fingerprint == fingerprint(der)
    assert material.not_before == made.leaf.not_valid_before_utc
    assert material.not_after == made.leaf.not_valid_after_utc
    assert material.warnings == ()


def test_every_order_gives_the_same() -> None:
    made = Hierarchy()
    read_in_order = {
        upload(*order, key=made.key).chain_pem
        for order in itertools.permutations([made.leaf, made.intermediate, made.root])
    }
    assert read_in_order == {pem(made.leaf, made.intermediate)}


def test_neither_the_key_nor_its_text_is_in_its_repr() -> None:
    made = Hierarchy()
    assert "PRIVATE" not in repr(upload(made.leaf, key=made.key))
    assert "PrivateKey" not in repr(upload(made.leaf, key=made.key))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (named("Example CA", "Example"), ("Example CA", "Example")),
        (named("Example CA", None), ("Example CA", None)),
        (named(None, "Example"), (None, "Example")),
        (
            x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "DE")]),
            ("C=DE", None),
        ),
    ],
)
def test_an_issuer_always_has_a_name_to_show(
    name: x509.Name, expected: tuple[str | None, str | None]
) -> None:
    ca = Ca("")
    ca.name = name
    issued = ca.leaf(DOMAIN)
    material = upload(issued.certificate, key=issued.key)
    assert (material.issuer_common_name, material.issuer_organization) == expected


# --- Clients agree --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [new_key(), rsa_key(), ec.generate_private_key(ec.SECP384R1())])
@pytest.mark.parametrize("names", [(DOMAIN,), ("*.example.com",), ("other.test", DOMAIN)])
def test_a_client_that_knows_the_root_trusts_what_is_served(
    key: Key, names: tuple[str, ...], tmp_path: Path
) -> None:
    root, middle, issuing = Ca("Root"), Ca("Middle"), Ca("Issuing", key=rsa_key(2048, "ca"))
    begins, ends = datetime.now().astimezone() - NOW - DAY, datetime.now().astimezone() - NOW + DAY
    issued = issuing.leaf(*names, key=key, begins=begins, ends=ends)
    chain = [root.root(), middle.certify(issuing), issued.certificate, root.certify(middle)]
    now = datetime.now().astimezone()
    material = upload(*chain, key=key, now=now)
    assert connect(material, pem(root.root()), DOMAIN, tmp_path) == "TLSv1.3"


def connect(material: Material, root: str, host: str, directory: Path) -> str | None:
    """Let a client and a server speak through memory; return the version that they agree on."""
    (directory / "chain.pem").write_text(material.chain_pem)
    (directory / "key.pem").write_text(material.private_key_pem)
    of_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    of_server.load_cert_chain(directory / "chain.pem", directory / "key.pem")
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cadata=root).wrap_bio(
        to_client, to_server, server_hostname=host
    )
    server = of_server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.version()


NAMES = [
    ("api.example.com", "api.example.com"),
    ("*.example.com", "api.example.com"),
    ("*.example.com", "example.com"),
    ("*.example.com", "a.api.example.com"),
    ("*.api.example.com", "api.example.com"),
    ("a*.example.com", "api.example.com"),
    ("*pi.example.com", "api.example.com"),
    ("api.*.com", "api.example.com"),
    ("*.*.com", "api.example.com"),
    ("*.com", "example.com"),
    ("*", "example"),
    ("*", "example.com"),
    ("example.com", "api.example.com"),
    ("api.example.com", "example.com"),
    ("*.example.com", "xn--bcher-kva.example.com"),
    ("*.co.uk", "example.co.uk"),
]


@pytest.mark.parametrize(("name", "domain"), NAMES)
def test_a_client_agrees_on_which_names_cover_a_domain(
    name: str, domain: str, tmp_path: Path
) -> None:
    root, now = Ca("Root"), datetime.now().astimezone()
    issued = root.leaf(name, begins=now - NOW - DAY, ends=now - NOW + DAY)
    material = upload(issued.certificate, key=issued.key, domain=None, now=now)
    try:
        connected = connect(material, pem(root.root()), domain, tmp_path) is not None
    except ssl.SSLCertVerificationError:
        connected = False
    assert covers(name, domain) == connected


def test_a_wildcard_needs_the_same_wildcard() -> None:
    assert covers("*.example.com", "*.example.com")
    assert not covers("example.com", "*.example.com")
    assert not covers("*.com", "*.example.com")
    assert not covers("*.example.com", "*.api.example.com")
    assert not covers("a.example.com", "*.example.com")


# --- What is refused ------------------------------------------------------------------------------


def test_a_key_that_matches_none() -> None:
    made = Hierarchy()
    assert refusal(made.leaf, made.intermediate, key=new_key()) == NO_MATCH
    assert refusal(made.leaf, made.intermediate, key=rsa_key()) == NO_MATCH


def test_the_key_of_a_ca_is_no_servers() -> None:
    made = Hierarchy()
    key = made.issuing_ca.key
    for domain in (DOMAIN, None):
        said = refusal(made.leaf, made.intermediate, key=key, domain=domain)
        assert said == "Certificate is a CA's, not a server's"


def test_of_two_certificates_of_a_key_the_one_that_fits_is_the_leaf() -> None:
    ca, key = Ca("CA"), new_key()
    old = ca.leaf(DOMAIN, key=key, ends=-DAY).certificate
    other = ca.leaf("other.test", key=key, ends=300 * DAY).certificate
    new = ca.leaf(DOMAIN, key=key).certificate
    assert refusal(old, other, new, key=key) == "Certificate chain is invalid"
    assert upload(new, key=key).leaf == new


@pytest.mark.parametrize("before_now", [timedelta(seconds=1), DAY, 1000 * DAY])
def test_an_expired_one(before_now: timedelta) -> None:
    ca = Ca("CA")
    begins = -before_now - DAY
    assert alone(ca.leaf(DOMAIN, begins=begins, ends=-before_now)) == "Certificate has expired"


def test_one_of_the_future() -> None:
    assert alone(Ca("CA").leaf(DOMAIN, begins=DAY)) == "Certificate is not valid yet"


@pytest.mark.parametrize(
    "names",
    [("other.test",), ("example.com",), ("*.api.example.com",), ("192.0.2.7",), ()],
)
def test_one_that_does_not_cover_the_domain(names: tuple[str, ...]) -> None:
    """The common name is no name, whatever stands there."""
    issued = Ca("CA").leaf(*names, subject=named(DOMAIN))
    assert alone(issued) == f"Certificate is not valid for domain {DOMAIN}"
    if names:
        assert upload(issued.certificate, key=issued.key, domain=None).names == names


def test_one_without_names() -> None:
    issued = Ca("CA").leaf(subject=named(DOMAIN))
    said = "Certificate has no subject alternative name"
    assert refusal(issued.certificate, key=issued.key, domain=None) == said


def test_one_for_another_use() -> None:
    ca = Ca("CA")
    said = "Certificate is not for TLS servers"
    client = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    assert alone(ca.leaf(DOMAIN, usages=client)) == said
    assert alone(ca.leaf(DOMAIN, usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,))) == said
    for usages in ((), (*client, ExtendedKeyUsageOID.SERVER_AUTH)):
        issued = ca.leaf(DOMAIN, usages=usages)
        assert upload(issued.certificate, key=issued.key).names == (DOMAIN,)


def test_texts_that_are_no_pem() -> None:
    made = Hierarchy()
    assert said_of("x", key_pem(made.key)) == "Certificate is not valid PEM"
    assert said_of(key_pem(made.key), key_pem(made.key)) == "Certificate is not valid PEM"
    assert said_of(pem(made.leaf), "x") == "Private key is not valid PEM"
    assert said_of(pem(made.leaf), pem(made.leaf)) == "Private key is not valid PEM"
    encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    assert said_of(pem(made.leaf), encrypted).startswith("Private key is encrypted")


async def test_a_key_for_pss_alone(tmp_path: Path) -> None:
    await output_of(
        "openssl", "req", "-x509", "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048",
        "-nodes", "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}",
        "-keyout", "key.pem", "-out", "leaf.pem", cwd=tmp_path,
    )  # fmt: skip
    certificate, key = ((tmp_path / name).read_text() for name in ("leaf.pem", "key.pem"))
    with pytest.raises(CertwireError, match="RSASSA-PSS"):
        read(certificate, key, DOMAIN, datetime.now().astimezone() + timedelta(seconds=2))


def test_serial_numbers_that_no_ca_may_give() -> None:
    key = new_key()
    for serial, fits in ((2**159 - 1, True), (2**160 - 1, True), (2**160, False)):
        text = patched_serial(Ca("CA").leaf(DOMAIN, key=key, serial=1), serial)
        if fits:
            assert read(text, key_pem(key), DOMAIN, NOW).serial_hex == f"{serial:x}"
        else:
            assert "serial number" in said_of(text, key_pem(key))


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
def test_serial_numbers_that_are_not_positive() -> None:
    key = new_key()
    for serial in (0, -1):
        text = patched_serial(Ca("CA").leaf(DOMAIN, key=key, serial=1), serial)
        assert "serial number" in said_of(text, key_pem(key))


def patched_serial(issued: Issued, serial: int) -> str:
    """Return a leaf with another serial number in place of 1: nobody sees that it isn't signed."""
    der = issued.certificate.public_bytes(Encoding.DER)
    number = serial.to_bytes(serial.bit_length() // 8 + 1, signed=True)
    outer, inner = der.index(b"\x30\x82"), der.index(b"\x30\x82", 2)
    body = bytearray(der)
    at = der.index(b"\x02\x01\x01", inner + 4 + 5)
    body[at : at + 3] = bytes((2, len(number))) + number
    for place in (outer, inner):
        size = int.from_bytes(body[place + 2 : place + 4]) + len(number) - 1
        body[place + 2 : place + 4] = size.to_bytes(2)
    return ssl.DER_cert_to_PEM_cert(bytes(body))


def test_an_issuer_without_a_name() -> None:
    ca = Ca("")
    ca.name = x509.Name([])
    assert alone(ca.leaf(DOMAIN)) == "Certificate names no issuer"


@pytest.mark.parametrize("name", ["a\0.example.com", "a\n.example.com", ""])
def test_names_that_are_none(name: str) -> None:
    issued = Ca("CA").leaf(DOMAIN, name)
    assert alone(issued) == "Certificate has a subject alternative name that is no name"


def test_what_stands_in_distinguished_names_can_be_stored_and_shown() -> None:
    ca = Ca("\0Evil\u202e\nCA", organization="\ud800".encode("utf-16", "surrogatepass").hex())
    issued = ca.leaf(DOMAIN, subject=named("a\0b\x1b[31m"))
    material = upload(issued.certificate, key=issued.key)
    for text in (
        material.subject,
        material.issuer,
        material.issuer_common_name,
        material.issuer_organization,
        *material.warnings,
    ):
        assert text is not None
        assert text.isprintable()
    assert material.issuer_common_name == "\ufffdEvil\ufffd\ufffdCA"


def test_a_common_name_that_is_no_text_is_none() -> None:
    bits = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\0\1", _type=_bit_string())
    ca = Ca("CA")
    ca.name = x509.Name([bits])
    issued = ca.leaf(DOMAIN)
    der = issued.certificate.public_bytes(Encoding.DER)
    der = der.replace(bytes.fromhex("060355042d"), bytes.fromhex("0603550403"))  # a common name
    with pytest.raises(CertwireError) as refused:
        read(ssl.DER_cert_to_PEM_cert(der), key_pem(issued.key), DOMAIN, NOW)
    assert refused.value.detail == "Certificate cannot be read"
    assert upload(issued.certificate, key=issued.key).issuer_common_name


def _bit_string() -> x509.name._ASN1Type:
    return x509.name._ASN1Type.BitString


# --- Warnings -------------------------------------------------------------------------------------


def warnings_of(*certificates: x509.Certificate, key: Key) -> tuple[str, ...]:
    return upload(*certificates, key=key).warnings


@pytest.mark.parametrize(
    ("ends", "warned"),
    [
        (timedelta(days=30, seconds=1), None),
        (timedelta(days=30), "30 days"),
        (timedelta(days=29, hours=1), "30 days"),
        (timedelta(days=1, hours=1), "2 days"),
        (timedelta(days=1), "a day"),
        (timedelta(hours=1), "a day"),
    ],
)
def test_one_that_ends_soon(ends: timedelta, warned: str | None) -> None:
    root = Ca("Root")
    issued = root.leaf(DOMAIN, begins=-DAY, ends=ends)
    said = warnings_of(issued.certificate, root.root(), key=issued.key)
    assert said == ((f"Certificate expires within {warned}",) if warned else ())


def test_a_chain_without_its_intermediates() -> None:
    made = Hierarchy()
    issuer = "CN=Example CA 1,O=Example Trust"
    assert warnings_of(made.leaf, key=made.key) == (
        f"Certificate chain is incomplete: the certificate of {issuer} is missing",
    )
    assert warnings_of(made.leaf, made.intermediate, key=made.key) == ()


async def test_what_openssl_makes_for_a_test_is_accepted_with_a_warning(tmp_path: Path) -> None:
    """By default it is a CA's."""
    await output_of(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}",
        "-keyout", "key.pem", "-out", "leaf.pem", "-days", 365, cwd=tmp_path,
    )  # fmt: skip
    certificate, key = ((tmp_path / name).read_text() for name in ("leaf.pem", "key.pem"))
    now = datetime.now().astimezone() + timedelta(seconds=2)
    assert read(certificate, key, DOMAIN, now).warnings == (
        "Certificate is self-signed: only clients that know it trust it",
    )


def test_what_some_clients_refuse() -> None:
    root = Ca("Root")
    issued = root.leaf(DOMAIN, extensions=[usage(digital_signature=False)])
    assert warnings_of(issued.certificate, root.root(), key=issued.key) == (
        "Certificate's key usage is not for signatures, which TLS 1.3 needs",
    )
    issued = root.leaf(DOMAIN, key=ed25519.Ed25519PrivateKey.generate())
    assert warnings_of(issued.certificate, root.root(), key=issued.key) == (
        "Browsers do not know Ed25519 keys",
    )
    issued = root.leaf(DOMAIN, extensions=[usage()])
    assert warnings_of(issued.certificate, root.root(), key=issued.key) == ()


# --- What a CA issued -----------------------------------------------------------------------------


def accepted(
    *certificates: x509.Certificate, key: Key, names: tuple[str, ...] = (DOMAIN,)
) -> Material:
    assert not isinstance(key, ed25519.Ed25519PrivateKey | type(None))
    return accept_issued(pem(*certificates), key, names, NOW)  # type: ignore[arg-type]  # no Ed448


def test_what_was_asked_for_is_accepted() -> None:
    made = Hierarchy(DOMAIN, "*.example.com", "example.com")
    names = (DOMAIN, "*.example.com", "example.com")
    material = accepted(made.leaf, made.intermediate, key=made.key, names=names)
    assert material.chain_pem == pem(made.leaf, made.intermediate)
    assert material.names == names
    assert accepted(made.leaf, made.intermediate, made.root, key=made.key).chain_pem == (
        material.chain_pem
    )


def test_a_cas_clock_may_be_ahead_by_an_hour() -> None:
    ca = Ca("CA")
    ahead = ca.leaf(DOMAIN, begins=timedelta(minutes=59))
    assert accepted(ahead.certificate, ca.root(), key=ahead.key).names == (DOMAIN,)
    far = ca.leaf(DOMAIN, begins=timedelta(minutes=61))
    with pytest.raises(ValueError, match=r"^Certificate is not valid yet$"):
        accepted(far.certificate, ca.root(), key=far.key)


def test_what_was_not_asked_for_is_refused() -> None:
    made, other = Hierarchy(), Hierarchy()
    ca = made.issuing_ca
    expired = ca.leaf(DOMAIN, begins=-2 * DAY, ends=-DAY)
    client = ca.leaf(DOMAIN, usages=(ExtendedKeyUsageOID.CLIENT_AUTH,))
    wrong: list[tuple[str, Key, tuple[str, ...], str]] = [
        ("", made.key, (DOMAIN,), "Certificate is not valid PEM"),
        ("<html>", made.key, (DOMAIN,), "Certificate is not valid PEM"),
        (pem(other.leaf, other.intermediate), made.key, (DOMAIN,), NO_MATCH),
        (pem(made.intermediate, made.leaf), made.key, (DOMAIN,), NO_MATCH),
        (pem(made.leaf, other.intermediate), made.key, (DOMAIN,), "Certificate chain is invalid"),
        (pem(made.leaf), made.key, ("a.test",), "Certificate is not valid for domain a.test"),
        (
            pem(made.leaf),
            made.key,
            (DOMAIN, "*.example.com"),
            "Certificate is not valid for domain *.example.com",
        ),
        (pem(expired.certificate), expired.key, (DOMAIN,), "Certificate has expired"),
        (pem(client.certificate), client.key, (DOMAIN,), "Certificate is not for TLS servers"),
    ]
    for text, key, names, reason in wrong:
        with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
            accept_issued(text, key, names, NOW)  # type: ignore[arg-type]  # no Ed448


# --- Hostile --------------------------------------------------------------------------------------


def mutated(data: st.DataObject, der: bytes) -> bytes:
    """Return DER with a few octets changed, left out or put in."""
    octets = bytearray(der)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets) - 1))
        kind = data.draw(st.sampled_from(["set", "set", "set", "bit", "cut", "put", "end"]))
        if kind == "set":
            octets[at] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF, *range(256)]))
        elif kind == "bit":
            octets[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            octets[at : at + 2] = octets[at : at + 1]
        elif kind == "put":
            octets[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        else:
            del octets[at + 2 :]
    return bytes(octets)


MADE = Hierarchy(DOMAIN, "*.example.com", "192.0.2.7")
DERS = [one.public_bytes(Encoding.DER) for one in (MADE.leaf, MADE.intermediate, MADE.root)]


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_certificates_are_refused_or_served(data: st.DataObject) -> None:
    """Never anything but the typed error, and what is served is what can be told of it."""
    changed = data.draw(st.integers(0, 2))
    ders = [mutated(data, der) if n == changed else der for n, der in enumerate(DERS)]
    if data.draw(st.booleans()):
        ders = ders[:1]  # without what would tell that the leaf's signature is broken
    text = "".join(map(ssl.DER_cert_to_PEM_cert, ders))
    domain = data.draw(st.sampled_from([DOMAIN, None]))
    try:
        material = read(text, key_pem(MADE.key), domain, NOW)
    except CertwireError as error:
        assert (error.code, bool(error.detail)) == (ErrorCode.INVALID_CERTIFICATE, True)  # noqa: PT017 - either is fine
        return
    assert can_be_told(material)


@settings(max_examples=150)
@given(st.data())
def test_mutated_certificates_of_a_ca_are_refused_or_accepted(data: st.DataObject) -> None:
    ders = [mutated(data, DERS[0]), *DERS[1 : data.draw(st.integers(1, 3))]]
    text = "".join(map(ssl.DER_cert_to_PEM_cert, ders))
    assert isinstance(MADE.key, ec.EllipticCurvePrivateKey)
    try:
        material = accept_issued(text, MADE.key, [DOMAIN], NOW)
    except ValueError:
        return
    assert can_be_told(material)


@given(st.data())
def test_mutated_texts_are_refused_or_served(data: st.DataObject) -> None:
    text = list(pem(MADE.leaf, MADE.intermediate) + key_pem(MADE.key))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.one_of(st.characters(), st.sampled_from("-=\n\r BEGINED")))
    try:
        material = read("".join(text), "".join(text), DOMAIN, NOW)
    except CertwireError as error:
        assert error.code is ErrorCode.INVALID_CERTIFICATE  # noqa: PT017 - either is fine
        return
    assert can_be_told(material)


@given(st.text(), st.text())
def test_any_text_is_refused(certificate: str, key: str) -> None:
    assert said_of(certificate, key)


@given(st.binary(max_size=200))
def test_any_octets_are_refused(octets: bytes) -> None:
    body = base64.encodebytes(octets).decode()
    text = f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"
    assert said_of(text, text.replace("CERTIFICATE", "PRIVATE KEY"))


def can_be_told(material: Material) -> bool:
    """Return whether the facts cross the bus, and Postgres takes them."""
    message = PublicCertificate.model_validate(
        {
            "project_id": "p",
            "domain": DOMAIN,
            "names": material.names,
            "type": "custom",
            "staging": False,
            "issued_at": material.not_before,
            "expires_at": material.not_after,
            "days_until_expiry": 1,
            "status": "valid",
            "issuer_common_name": material.issuer_common_name,
            "issuer_organization": material.issuer_organization,
            "serial_hex": material.serial_hex,
            "fingerprint": material.fingerprint,
            "auto_renew": False,
            "revoked_at": None,
            "last_renew_attempt": None,
            "last_renew_error": None,
        }
    )
    texts = [message.model_dump_json(), material.subject, material.issuer, *material.warnings]
    return "\0" not in "".join(texts) and bool("".join(texts).encode())
