"""Every CRL that we assemble is, byte for byte, what cryptography would have made."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from contracts.certificates import RevocationReason
from services.issuer import keys
from services.issuer.domain import crl
from services.issuer.domain.crl import CrlTemplate
from services.issuer.keys import KeyAlgorithm, PrivateKey
from tests.unit.services.issuer.builders import CA_ALGORITHMS, key_of
from tests.unit.services.issuer.domain.test_encoding import hash_of, moments, names

LINTER = Path(sys.executable).with_name("lint_crl")
FLAGS = {
    RevocationReason.UNSPECIFIED: None,
    RevocationReason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    RevocationReason.CA_COMPROMISE: x509.ReasonFlags.ca_compromise,
    RevocationReason.AFFILIATION_CHANGED: x509.ReasonFlags.affiliation_changed,
    RevocationReason.SUPERSEDED: x509.ReasonFlags.superseded,
    RevocationReason.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
    RevocationReason.PRIVILEGE_WITHDRAWN: x509.ReasonFlags.privilege_withdrawn,
    RevocationReason.AA_COMPROMISE: x509.ReasonFlags.aa_compromise,
}
Entry = tuple[int, datetime, RevocationReason]
entries = st.lists(
    st.tuples(st.integers(1, 2**159 - 1), moments, st.sampled_from(RevocationReason)), max_size=30
)


def assembled(
    issuer: x509.Name, key: PrivateKey, number: int, times: tuple[datetime, datetime], *all_: Entry
) -> tuple[bytes, bytes]:
    """Return what is to be signed, and the whole list around a signature by the key."""
    template = CrlTemplate.prepare(issuer, key.public_key(), b"\x02" * 20)
    listed = b"".join(crl.entry(f"{serial:x}", when, reason) for serial, when, reason in all_)
    unsigned = template.unsigned(number, *times, len(listed))
    to_be_signed = unsigned.head + listed + unsigned.tail
    head, tail = unsigned.signed(keys.signer(key)(to_be_signed))
    return to_be_signed, head + listed + tail


@given(
    algorithm=st.sampled_from(CA_ALGORITHMS),
    issuer=names(),
    number=st.integers(1, 2**63),
    this_update=moments,
    hours=st.integers(1, 10_000),
    revoked=entries,
)
def test_equals_what_cryptography_builds(
    *,
    algorithm: KeyAlgorithm,
    issuer: x509.Name,
    number: int,
    this_update: datetime,
    hours: int,
    revoked: list[Entry],
) -> None:
    key, next_update = key_of(algorithm, "issuer"), this_update + timedelta(hours=hours)
    ours, der = assembled(issuer, key, number, (this_update, next_update), *revoked)

    builder = x509.CertificateRevocationListBuilder(issuer, this_update, next_update)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier(b"\x02" * 20, None, None), False)
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for serial, when, reason in revoked:
        item = x509.RevokedCertificateBuilder(serial, when)
        if (flag := FLAGS[reason]) is not None:
            item = item.add_extension(x509.CRLReason(flag), critical=False)
        builder = builder.add_revoked_certificate(item.build())
    theirs = builder.sign(key, hash_of(key))
    assert ours == theirs.tbs_certlist_bytes

    parsed = x509.load_der_x509_crl(der)
    assert parsed.is_signature_valid(key.public_key())
    assert parsed.tbs_certlist_bytes == ours
    assert parsed.signature_algorithm_oid == theirs.signature_algorithm_oid
    assert parsed.public_bytes(Encoding.DER) == der


@given(entries)
def test_entries_come_apart_again(revoked: list[Entry]) -> None:
    single = [crl.entry(f"{serial:x}", when, reason) for serial, when, reason in revoked]
    assert list(crl.entries_of(b"".join(single))) == single
    assert all(len(entry) <= 56 for entry in single)


@pytest.mark.parametrize("algorithm", CA_ALGORITHMS)
@pytest.mark.parametrize("count", [0, len(FLAGS)])
def test_pkilint_finds_nothing(algorithm: KeyAlgorithm, count: int, tmp_path: Path) -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    revoked = [(2**126 + place, now, reason) for place, reason in enumerate(FLAGS)][:count]
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Example Issuing CA")])
    times = now, now + timedelta(hours=24)
    _, der = assembled(name, key_of(algorithm, "issuer"), 7, times, *revoked)
    (tmp_path / "crl").write_bytes(der)
    done = subprocess.run(
        [LINTER, "lint", "-t", "CRL", "-p", "PKIX", "-s", "NOTICE", "-f", "JSON", tmp_path / "crl"],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert json.loads(done.stdout)["results"] == []


def test_every_reason_has_its_code() -> None:
    assert crl.REASON_CODES.keys() == set(RevocationReason) - {RevocationReason.UNSPECIFIED}
