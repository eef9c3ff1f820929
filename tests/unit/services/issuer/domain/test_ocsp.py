"""OCSP as others make it and read it: cryptography, openssl, pkilint."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as theirs
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from contracts.certificates import RevocationReason
from services.issuer import keys
from services.issuer.domain import ocsp
from services.issuer.domain.encoding import (
    element,
    octet_string,
    sequence,
    signature_algorithm,
)
from services.issuer.domain.identities import ocsp_responder
from services.issuer.domain.ocsp import ErrorStatus, IssuerIds, OcspRequest, Status
from services.issuer.domain.profiles import INSTANCE, OCSP_RESPONDER
from services.issuer.keys import KeyAlgorithm
from shared.x509 import public_key_der
from tests.unit.services.issuer.builders import LEAVES, Hierarchy, key_of, loaded, sign
from tests.unit.services.issuer.domain.test_crl import FLAGS
from tests.unit.services.issuer.domain.test_encoding import moments

LINTER = Path(sys.executable).with_name("lint_ocsp_response")
CA = Hierarchy(KeyAlgorithm.P256)
ISSUING = loaded(CA.issuing)
LEAF = loaded(sign(CA.authority, INSTANCE, LEAVES[INSTANCE], key_of(KeyAlgorithm.P256)))
RESPONDER_KEY = key_of(KeyAlgorithm.P256, "responder")
RESPONDER = loaded(
    sign(CA.authority, OCSP_RESPONDER, ocsp_responder("example-issuing-ca-2"), RESPONDER_KEY)
)
IDS = IssuerIds.of(ISSUING, public_key_der(ISSUING.public_key()))  # type: ignore[arg-type]  # a P-256 key
ALGORITHMS: tuple[hashes.HashAlgorithm, ...] = (
    hashes.SHA1(),  # noqa: S303 - what most clients send
    hashes.SHA256(),
    hashes.SHA384(),
    hashes.SHA512(),
)


def request(algorithm: hashes.HashAlgorithm = ALGORITHMS[0], nonce: bytes | None = None) -> bytes:
    builder = theirs.OCSPRequestBuilder().add_certificate(LEAF, ISSUING, algorithm)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def answered(
    asked: OcspRequest, status: Status | None, this_update: datetime, next_update: datetime
) -> bytes:
    """Return the response of our responder."""
    singles = [
        ocsp.single_response(each, status, this_update, next_update) for each in asked.certificates
    ]
    key = RESPONDER_KEY.public_key()
    data = ocsp.response_data(ocsp.key_hash(public_key_der(key)), this_update, singles, asked.nonce)
    return ocsp.successful_response(
        data,
        signature_algorithm(key),
        keys.signer(RESPONDER_KEY)(data),
        RESPONDER.public_bytes(Encoding.DER),
    )


# --- Requests ------------------------------------------------------------------------------------


@given(st.sampled_from(ALGORITHMS), st.one_of(st.none(), st.binary(min_size=1, max_size=128)))
def test_reads_what_cryptography_asks(algorithm: hashes.HashAlgorithm, nonce: bytes | None) -> None:
    asked = ocsp.parse_request(request(algorithm, nonce))
    assert asked.nonce == nonce
    (cert_id,) = asked.certificates
    assert cert_id.serial == LEAF.serial_number
    assert cert_id.serial_hex == f"{LEAF.serial_number:x}"
    assert IDS.issued(cert_id)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_ca_is_told_apart_by_name_and_by_key(algorithm: hashes.HashAlgorithm) -> None:
    (cert_id,) = ocsp.parse_request(request(algorithm)).certificates
    for other in (IssuerIds(b"another", IDS.key_bits), IssuerIds(IDS.name, b"another")):
        assert not other.issued(cert_id)


def test_a_hash_that_nobody_knows_is_nobodys() -> None:
    der = request().replace(bytes.fromhex("2b0e03021a"), bytes.fromhex("2b0e03021b"))
    (cert_id,) = ocsp.parse_request(der).certificates
    assert not IDS.issued(cert_id)


@pytest.mark.parametrize("serial", [0, -5, 2**160, 2**4000])
def test_a_serial_that_is_nobodys_is_not_looked_up(serial: int) -> None:
    (cert_id,) = ocsp.parse_request(request()).certificates
    odd = ocsp.CertId(cert_id.der, "sha1", b"", b"", serial)
    assert odd.serial_hex is None


def extended(*extensions: bytes) -> bytes:
    """Return a request with extensions of its own."""
    single = sequence(ocsp.parse_request(request()).certificates[0].der)
    return sequence(sequence(sequence(single), element(0xA2, sequence(*extensions))))


def nonce(value: bytes) -> bytes:
    return sequence(ocsp._NONCE, octet_string(value))


@pytest.mark.parametrize(
    "value",
    [b"", b"raw octets", octet_string(b""), octet_string(b"x" * 129), octet_string(b"x") + b"y"],
)
def test_refuses_a_nonce_of_another_length(value: bytes) -> None:
    """RFC 9654 section 2.1."""
    with pytest.raises(ValueError, match=r"."):
        ocsp.parse_request(extended(nonce(value)))


def test_other_extensions_are_ignored_unless_they_are_critical() -> None:
    other = element(0x06, b"\x2a\x03"), octet_string(b"")
    assert ocsp.parse_request(extended(sequence(*other), nonce(octet_string(b"n")))).nonce == b"n"
    with pytest.raises(ValueError, match="critical"):
        ocsp.parse_request(extended(sequence(other[0], b"\x01\x01\xff", other[1])))


@pytest.mark.parametrize("count", [0, ocsp.MOST_CERTIFICATES + 1])
def test_refuses_nothing_and_too_much(count: int) -> None:
    single = sequence(ocsp.parse_request(request()).certificates[0].der)
    with pytest.raises(ValueError, match="certificates"):
        ocsp.parse_request(sequence(sequence(sequence(*[single] * count))))


def test_a_requestor_and_a_signature_are_tolerated() -> None:
    single = sequence(ocsp.parse_request(request()).certificates[0].der)
    version, requester = element(0xA0, b"\x02\x01\x00"), element(0xA1, element(0x82, b"a.example"))
    signature = element(0xA0, sequence(b"whatever"))
    der = sequence(sequence(version, requester, sequence(single)), signature)
    assert ocsp.parse_request(der).certificates[0].serial == LEAF.serial_number
    with pytest.raises(ValueError, match="version"):
        ocsp.parse_request(sequence(sequence(element(0xA0, b"\x02\x01\x01"), sequence(single))))


@given(st.data())
def test_whatever_is_changed_in_a_request_it_is_read_or_refused(data: st.DataObject) -> None:
    der = bytearray(request(nonce=b"n" * 16))
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(der[: data.draw(st.integers(0, len(der)))])
    for changed in (bytes(der), cut, bytes(der) + b"\x00", data.draw(st.binary(max_size=200))):
        try:
            asked = ocsp.parse_request(changed)
        except ValueError:
            continue
        assert asked.certificates


# --- Responses -----------------------------------------------------------------------------------


@given(
    algorithm=st.sampled_from(ALGORITHMS[:2]),
    nonce=st.one_of(st.none(), st.binary(min_size=1, max_size=128)),
    reason=st.one_of(st.none(), st.sampled_from(RevocationReason)),
    revoked_at=moments,
    this_update=moments,
    known=st.booleans(),
)
def test_equals_what_cryptography_builds(
    *,
    algorithm: hashes.SHA1 | hashes.SHA256,
    nonce: bytes | None,
    reason: RevocationReason | None,
    revoked_at: datetime,
    this_update: datetime,
    known: bool,
) -> None:
    next_update = this_update + timedelta(hours=1)
    status = None if not known else Status(revoked_at, reason) if reason else Status()
    ours = answered(ocsp.parse_request(request(algorithm, nonce)), status, this_update, next_update)
    said = theirs.OCSPCertStatus.UNKNOWN
    if known:
        said = theirs.OCSPCertStatus.REVOKED if reason else theirs.OCSPCertStatus.GOOD
    is_revoked = said is theirs.OCSPCertStatus.REVOKED
    builder = (
        theirs.OCSPResponseBuilder()
        .add_response(
            LEAF,
            ISSUING,
            algorithm,
            said,
            this_update,
            next_update,
            revoked_at if is_revoked else None,
            FLAGS[reason] if is_revoked and reason else None,
        )
        .responder_id(theirs.OCSPResponderEncoding.HASH, RESPONDER)
        .certificates([RESPONDER])
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    built = builder.sign(RESPONDER_KEY, hashes.SHA256())
    parsed = theirs.load_der_ocsp_response(ours)
    assert parsed.certificate_status is said
    assert _without_production(parsed, built) == built.tbs_response_bytes
    key = RESPONDER_KEY.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(parsed.signature, parsed.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


def _without_production(ours: theirs.OCSPResponse, built: theirs.OCSPResponse) -> bytes:
    """Return what we signed with the others' `producedAt`, which is always now."""
    produced, now = (f"{each.produced_at_utc:%Y%m%d%H%M%SZ}".encode() for each in (ours, built))
    key_hash = built.responder_key_hash or b""
    before, _, after = ours.tbs_response_bytes.partition(key_hash)
    return before + key_hash + after.replace(produced, now, 1)


@pytest.mark.parametrize("status", ErrorStatus)
def test_error_responses(status: ErrorStatus) -> None:
    parsed = theirs.load_der_ocsp_response(ocsp.error_response(status))
    assert parsed.response_status.value == status
    assert parsed.response_status.name == status.name


@pytest.mark.parametrize("with_nonce", [False, True])
@pytest.mark.parametrize(
    "status",
    [None, Status(), Status(datetime(2026, 11, 20, tzinfo=UTC), RevocationReason.SUPERSEDED)],
)
def test_pkilint_finds_nothing(status: Status | None, *, with_nonce: bool, tmp_path: Path) -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    asked = ocsp.parse_request(request(nonce=b"n" * 32 if with_nonce else None))
    path = tmp_path / "response"
    path.write_bytes(answered(asked, status, now, now + timedelta(hours=1)))
    done = subprocess.run(
        [LINTER, "lint", "-s", "NOTICE", "-f", "JSON", path], stdout=subprocess.PIPE, check=True
    )
    assert json.loads(done.stdout)["results"] == []


def test_the_responder_is_what_rfc_6960_asks_for() -> None:
    extensions = RESPONDER.extensions
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert not extensions.get_extension_for_class(x509.OCSPNoCheck).critical
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    RESPONDER.verify_directly_issued_by(ISSUING)
    validity = RESPONDER.not_valid_after_utc - RESPONDER.not_valid_before_utc
    assert validity == timedelta(days=7) - timedelta(seconds=1)
