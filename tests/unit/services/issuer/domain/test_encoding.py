"""Every certificate that we assemble is, byte for byte, what cryptography would have made."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from services.issuer.domain.encoding import (
    Template,
    element,
    integer,
    object_identifier,
    pem,
    public_key_bits,
)
from services.issuer.domain.profiles import (
    ISSUING_CA,
    PLATFORM_LEAVES,
    ROOT_CA,
    IssuerLinks,
    Profile,
    key_identifier,
    own_extensions,
    shared_extensions,
)
from services.issuer.keys import KeyAlgorithm, PrivateKey
from shared.x509 import public_key_der
from tests.unit.services.issuer.builders import CA_ALGORITHMS, key_of

HASHES: dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
PROFILES = (ROOT_CA, ISSUING_CA, *PLATFORM_LEAVES)
LINKS = IssuerLinks(
    b"\x01" * 20, "http://a.example/crl/x", "http://a.example/x.crt", "http://o.example"
)

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=16
)
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
general_names = st.one_of(
    st.builds(x509.DNSName, labels),
    st.builds(x509.IPAddress, st.ip_addresses()),
    st.builds(lambda label: x509.UniformResourceIdentifier(f"spiffe://x.example/{label}"), labels),
)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2120, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - hypothesis wants bounds without a zone
    lambda moment: moment.replace(microsecond=0)
)


@st.composite
def names(draw: st.DrawFn) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, draw(texts))]
    if draw(st.booleans()):
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, draw(texts)))
    return x509.Name(attributes)


def hash_of(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return HASHES[key.curve.name]
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


@given(
    profile=st.sampled_from(PROFILES),
    linked=st.booleans(),
    issuer_algorithm=st.sampled_from(CA_ALGORITHMS),
    algorithm=st.sampled_from(CA_ALGORITHMS),
    issuer=names(),
    subject=names(),
    alternative=st.lists(general_names, max_size=4),
    serial=st.integers(1, 2**159 - 1),
    not_before=moments,
    days=st.integers(0, 40_000),
)
def test_equals_what_cryptography_builds(
    *,
    profile: Profile,
    linked: bool,
    issuer_algorithm: KeyAlgorithm,
    algorithm: KeyAlgorithm,
    issuer: x509.Name,
    subject: x509.Name,
    alternative: list[x509.GeneralName],
    serial: int,
    not_before: datetime,
    days: int,
) -> None:
    issuer_key, key = key_of(issuer_algorithm, "issuer"), key_of(algorithm)
    public_key, not_after = public_key_der(key.public_key()), not_before + timedelta(days=days)
    shared = shared_extensions(profile, LINKS if linked else None)
    own = own_extensions(public_key, alternative)
    template = Template.prepare(issuer, issuer_key.public_key(), shared)
    ours = template.to_be_signed(serial, not_before, not_after, subject, public_key, own)

    builder = x509.CertificateBuilder(
        issuer, subject, key.public_key(), serial, not_before, not_after
    )
    for value, critical in (*shared, *own):
        builder = builder.add_extension(value, critical)
    theirs = builder.sign(issuer_key, hash_of(issuer_key))

    assert ours == theirs.tbs_certificate_bytes
    assert template.certificate(ours, theirs.signature) == theirs.public_bytes(Encoding.DER)
    assert pem(theirs.public_bytes(Encoding.DER)).encode() == theirs.public_bytes(Encoding.PEM)


@given(st.integers(0, 2**160), st.sampled_from([0, 1000, 2000, 530_000]))
def test_an_integer_reads_back(small: int, shift: int) -> None:
    value = small << shift
    encoded = integer(value)
    content = encoded[-(value.bit_length() // 8 + 1) :]
    assert int.from_bytes(content, signed=True) == value
    assert encoded == element(0x02, content)


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**40), max_size=6))
def test_an_object_identifier_is_what_cryptography_encodes(
    first: int, second: int, others: list[int]
) -> None:
    dotted = ".".join(map(str, (first, second, *others)))
    value = x509.ExtendedKeyUsage([x509.ObjectIdentifier(dotted)]).public_bytes()
    assert value.endswith(object_identifier(dotted))


def test_the_bits_of_a_key_are_those_that_cryptography_hashes() -> None:
    """SubjectKeyIdentifier.from_public_key is method 1 of RFC 5280 section 4.2.1.2: SHA-1."""
    for algorithm in CA_ALGORITHMS:
        public_key = key_of(algorithm).public_key()
        digest = hashes.Hash(hashes.SHA1())  # noqa: S303 - what the other side computes
        digest.update(public_key_bits(public_key_der(public_key)))
        assert digest.finalize() == x509.SubjectKeyIdentifier.from_public_key(public_key).digest
        assert len(key_identifier(public_key_der(public_key))) == 20
