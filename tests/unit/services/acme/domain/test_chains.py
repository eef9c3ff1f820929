"""Chains in whatever order: what is served, and what does not belong."""

import itertools
import random
import ssl
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import Encoding

from services.acme.domain.chains import (
    MOST_CERTIFICATES,
    Certificate,
    Chain,
    chain_of,
    read_certificates,
)
from services.acme.domain.pem import UnfitError
from shared.x509 import fingerprint
from tests.support.programs import output_of
from tests.unit.services.acme.authorities import DAY, DOMAIN, NOW, Ca, Hierarchy, pem, rsa_key

INVALID = "Certificate chain is invalid"


def ordered(
    leaf: x509.Certificate, *others: x509.Certificate, now: datetime = NOW
) -> list[x509.Certificate]:
    """Return what is served of certificates in any order."""
    return [one.certificate for one in chain(leaf, *others, now=now).served]


def chain(leaf: x509.Certificate, *others: x509.Certificate, now: datetime = NOW) -> Chain:
    certificates = read_certificates(pem(*others, leaf))
    return chain_of(of(leaf, certificates), certificates, now)


def of(leaf: x509.Certificate, certificates: list[Certificate]) -> Certificate:
    return next(one for one in certificates if one.certificate == leaf)


def refusal(leaf: x509.Certificate, *others: x509.Certificate) -> str:
    with pytest.raises(UnfitError) as refused:
        chain(leaf, *others)
    return str(refused.value)


# --- Order ----------------------------------------------------------------------------------------


def test_every_order_of_four_gives_the_same_chain_without_its_root() -> None:
    root, middle, last = Ca("Root"), Ca("Middle"), Ca("Last")
    leaf = last.leaf(DOMAIN).certificate
    certificates = [leaf, middle.certify(last), root.certify(middle), root.root()]
    for order in itertools.permutations(certificates):
        read = read_certificates(pem(*order))
        served = chain_of(of(leaf, read), read, NOW).served
        assert [one.certificate for one in served] == certificates[:3]


async def test_openssl_verifies_what_is_served(tmp_path: Path) -> None:
    root, middle, last = Ca("Root"), Ca("Middle", key=rsa_key()), Ca("Last")
    leaf = last.leaf(DOMAIN).certificate
    served = ordered(leaf, root.certify(middle), root.root(), middle.certify(last))
    (tmp_path / "root.pem").write_text(pem(root.root()))
    (tmp_path / "chain.pem").write_text(pem(*served[1:]))
    (tmp_path / "leaf.pem").write_text(pem(leaf))
    said = await output_of(
        "openssl", "verify", "-x509_strict", "-attime", int(NOW.timestamp()), "-purpose",
        "sslserver", "-CAfile", "root.pem", "-untrusted", "chain.pem", "leaf.pem", cwd=tmp_path,
    )  # fmt: skip
    assert said == "leaf.pem: OK\n"


def test_duplicates_count_once() -> None:
    made = Hierarchy()
    text = pem(made.intermediate, made.leaf, made.leaf, made.intermediate)
    assert len(read_certificates(text)) == 2


def test_a_missing_root_is_normal_and_a_missing_intermediate_is_known() -> None:
    made = Hierarchy()
    assert not chain(made.leaf, made.intermediate).lacks_issuer
    assert chain(made.leaf).lacks_issuer
    root = Ca("Root")
    assert not chain(root.leaf(DOMAIN).certificate, root.root()).lacks_issuer


def test_a_self_signed_certificate_is_its_own_chain() -> None:
    own = Ca(DOMAIN)
    alone = own.leaf(DOMAIN, key=own.key, subject=own.name).certificate
    assert ordered(alone) == [alone]
    assert not chain(alone).lacks_issuer


# --- What does not belong -------------------------------------------------------------------------


def test_what_signs_nothing_here_makes_the_chain_invalid() -> None:
    made, other = Hierarchy(), Hierarchy()
    strangers = [
        [other.leaf],
        [other.intermediate],  # of the same names, with other keys
        [other.root],
        [other.intermediate, other.root],  # they sign each other, but not the leaf
        [Ca("Elsewhere").root()],
    ]
    for stranger in strangers:
        assert refusal(made.leaf, made.intermediate, made.root, *stranger) == INVALID
        assert refusal(made.leaf, *stranger) == INVALID
    assert refusal(made.leaf, made.root) == INVALID  # the one between is missing


def test_a_name_alone_signs_nothing() -> None:
    made = Hierarchy()
    impostor = Ca("Example CA 1").root()
    assert refusal(made.leaf, impostor) == INVALID
    assert refusal(made.leaf, made.intermediate, impostor) == INVALID


def test_two_cas_that_vouch_for_each_other_vouch_for_nobody_else() -> None:
    one, other = Ca("One"), Ca("Other")
    assert refusal(Hierarchy().leaf, one.certify(other), other.certify(one)) == INVALID


def test_who_may_not_sign_has_not_signed() -> None:
    root, ca = Ca("Root"), Ca("CA")
    leaf = ca.leaf(DOMAIN).certificate
    assert ordered(leaf, root.certify(ca, ca=True))
    assert refusal(leaf, root.certify(ca, ca=False)) == INVALID
    assert refusal(leaf, root.certify(ca, ca=None)) == INVALID
    assert refusal(leaf, root.certify(ca, sign_usage=False)) == INVALID
    assert ordered(leaf, root.certify(ca, sign_usage=None))


def test_path_lengths_count_the_cas_below_but_not_a_change_of_key() -> None:
    root, middle, last = Ca("Root"), Ca("Middle"), Ca("Last")
    leaf = last.leaf(DOMAIN).certificate
    below = middle.certify(last)
    assert len(ordered(leaf, below, root.certify(middle, path_length=1))) == 3
    assert refusal(leaf, below, root.certify(middle, path_length=0)) == INVALID
    assert refusal(leaf, below, root.certify(middle), root.root(path_length=0)) == INVALID
    new = Ca("Middle")  # of the same name, signed by the old key
    leaf = new.leaf(DOMAIN).certificate
    assert len(ordered(leaf, middle.certify(new), root.certify(middle, path_length=0))) == 3


# --- Several ways up ------------------------------------------------------------------------------


def test_a_cross_signed_root_is_served_in_the_place_of_the_root() -> None:
    old, new, issuing = Ca("Old Root"), Ca("New Root"), Ca("CA")
    leaf, below = issuing.leaf(DOMAIN).certificate, new.certify(issuing)
    crossed = old.certify(new, ends=10 * DAY)
    assert ordered(leaf, new.root(), crossed, below) == [leaf, below, crossed]
    assert ordered(leaf, old.root(), new.root(), crossed, below) == [leaf, below, crossed]
    assert ordered(leaf, new.root(), below) == [leaf, below]


def test_a_cross_signed_root_that_has_expired_is_left_out() -> None:
    old, new, issuing = Ca("Old Root"), Ca("New Root"), Ca("CA")
    leaf, below = issuing.leaf(DOMAIN).certificate, new.certify(issuing)
    crossed = old.certify(new, ends=-DAY)
    assert ordered(leaf, crossed, new.root(), below) == [leaf, below]
    assert refusal(leaf, crossed, below) == "Certificate chain has expired"


def test_of_two_ways_up_the_one_is_served_that_lasts_and_goes_further() -> None:
    first, second, issuing = Ca("First"), Ca("Second"), Ca("CA")
    leaf = issuing.leaf(DOMAIN).certificate
    short, long = first.certify(issuing, ends=50 * DAY), first.certify(issuing, ends=60 * DAY)
    expired = first.certify(issuing, ends=-DAY)
    assert ordered(leaf, short, expired, long) == [leaf, long]
    up = [second.certify(issuing, ends=40 * DAY), first.certify(second)]
    assert ordered(leaf, short, long, *up) == [leaf, *up]


def test_key_identifiers_tell_two_certificates_of_a_key_apart() -> None:
    root, ca = Ca("Root"), Ca("CA")
    leaf = ca.leaf(DOMAIN, authority_key_id=b"new").certificate
    meant = root.certify(ca, key_id=b"new", ends=50 * DAY)
    other = root.certify(ca, key_id=b"old", ends=90 * DAY)
    for order in ((meant, other), (other, meant)):
        assert ordered(leaf, *order) == [leaf, meant]


def test_cas_that_all_vouch_for_each_other_take_no_time() -> None:
    """Nine certificates of one name and key: there are 9! ways through them."""
    ca = Ca("CA")
    leaf = ca.leaf(DOMAIN).certificate
    same = [ca.certify(ca, ends=days * DAY) for days in range(1, MOST_CERTIFICATES)]
    assert ordered(leaf, *same) == [leaf]  # all are roots
    cas = [Ca(f"CA {number}") for number in range(3)]
    crossed = [one.certify(other) for one, other in itertools.permutations(cas, 2)]
    random.shuffle(crossed)
    served = ordered(cas[0].leaf(DOMAIN).certificate, *crossed)
    assert len({fingerprint(one.public_bytes(Encoding.DER)) for one in served}) == len(served)


# --- Strength and time ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begins", "ends", "reason"),
    [
        (-100 * DAY, -DAY, "Certificate chain has expired"),
        (-100 * DAY, timedelta(seconds=-1), "Certificate chain has expired"),
        (DAY, 100 * DAY, "Certificate chain is not valid yet"),
    ],
)
def test_an_intermediate_out_of_its_time_is_refused(
    begins: timedelta, ends: timedelta, reason: str
) -> None:
    root, ca = Ca("Root"), Ca("CA")
    leaf = ca.leaf(DOMAIN).certificate
    assert refusal(leaf, root.certify(ca, begins=begins, ends=ends)) == reason


def test_a_clock_that_is_a_little_ahead_is_the_cas_own_affair() -> None:
    root, ca = Ca("Root"), Ca("CA")
    leaf = ca.leaf(DOMAIN).certificate
    assert ordered(leaf, root.certify(ca, begins=timedelta(minutes=59)))


def test_when_a_root_ends_is_the_clients_affair() -> None:
    root, ca = Ca("Root"), Ca("CA")
    leaf = ca.leaf(DOMAIN).certificate
    assert len(ordered(leaf, root.certify(ca), root.root(ends=-DAY))) == 2


@pytest.mark.parametrize("kind", ["sha1", "md5"])
async def test_signatures_that_clients_refuse_are_refused_but_for_a_roots(
    kind: str, tmp_path: Path
) -> None:
    """The library signs nothing with these any more, openssl does."""
    weak = await _signed_by_openssl(tmp_path, kind)
    said = f"Certificate is signed with {kind.upper()}, which clients refuse"
    assert refusal(weak["leaf"]) == said
    assert refusal(weak["leaf"], weak["ca"]) == said
    assert refusal(weak["strong"], weak["ca"], weak["root"]) == said
    assert refusal(weak["root"]) == said
    assert ordered(weak["below"], weak["root"]) == [weak["below"]]
    assert not chain(weak["below"], weak["root"]).lacks_issuer


async def _signed_by_openssl(directory: Path, kind: str) -> dict[str, x509.Certificate]:
    """Return a root, a CA and a leaf signed with a hash; `strong`, `below` are signed well."""
    made = {}
    signed = (
        ("root", None, kind, True),
        ("ca", "root", kind, True),
        ("leaf", "ca", kind, False),
        ("strong", "ca", "sha256", False),
        ("below", "root", "sha256", False),
    )
    for name, issuer, algorithm, is_ca in signed:
        words: list[object] = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", f"-{algorithm}"]
        words += ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        words += ["-addext", f"basicConstraints=critical,CA:{str(is_ca).upper()}"]
        if issuer is not None:
            words += ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"]
        await output_of("openssl", *words, cwd=directory)
        made[name] = x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())
    return made


@pytest.mark.parametrize(
    ("ca", "reason"),
    [
        (Ca("CA", key=rsa_key(1024)), "holds a weak key: an RSA key has 2048 to 8192 bits"),
        (
            Ca("CA", key=ec.generate_private_key(ec.SECP256K1())),
            "holds a weak key: the key's curve is not supported",
        ),
    ],
    ids=["RSA-1024", "secp256k1"],
)
def test_weak_keys_of_intermediates_are_refused(ca: Ca, reason: str) -> None:
    leaf = ca.leaf(DOMAIN).certificate
    assert refusal(leaf, Ca("Root").certify(ca)) == f"Certificate chain {reason}"
    assert ordered(leaf, ca.root()) == [leaf]  # a root's are the clients' affair


def test_keys_that_no_client_knows_are_refused() -> None:
    root, ca = Ca("Root"), Ca("CA", key=ed448.Ed448PrivateKey.generate())
    leaf = ca.leaf(DOMAIN).certificate
    said = "Certificate chain holds a key that clients do not know"
    assert refusal(leaf, root.certify(ca)) == said


# --- Reading --------------------------------------------------------------------------------------


def test_what_programs_print_around_certificates_is_no_matter() -> None:
    made = Hierarchy()
    text = f"""subject=CN = {DOMAIN}
issuer=CN = Example CA 1
{pem(made.leaf)}
 1 s:CN = Example CA 1
Certificate:
    Data:
        Version: 3 (0x2)
{pem(made.intermediate)}
---
Server certificate
"""
    assert [one.certificate for one in read_certificates(text)] == [made.leaf, made.intermediate]


def test_old_labels_are_certificates_and_other_blocks_are_not() -> None:
    made = Hierarchy()
    text = pem(made.leaf)
    old = text.replace(" CERTIFICATE", " X509 CERTIFICATE")
    key = ssl.DER_cert_to_PEM_cert(b"secret").replace("CERTIFICATE", "PRIVATE KEY")
    assert [one.certificate for one in read_certificates(key + old)] == [made.leaf]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a certificate",
        "-----BEGIN CERTIFICATE-----\nMIID...\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMIID",
        ssl.DER_cert_to_PEM_cert(b"x").replace("CERTIFICATE", "PKCS7"),
    ],
)
def test_what_is_no_pem_is_called_so(text: str) -> None:
    with pytest.raises(UnfitError, match=r"^Certificate is not valid PEM$"):
        read_certificates(text)


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"\x30\x84", bytes(1000)])
def test_what_is_no_certificate_cannot_be_read(der: bytes) -> None:
    text = ssl.DER_cert_to_PEM_cert(der)
    with pytest.raises(UnfitError, match=r"^Certificate (cannot be read|is not valid PEM)$"):
        read_certificates(text)


def test_ten_certificates_are_enough() -> None:
    own = Ca(DOMAIN)
    many = [own.leaf(DOMAIN).certificate for _ in range(MOST_CERTIFICATES + 1)]
    assert len(read_certificates(pem(*many[1:]))) == MOST_CERTIFICATES
    with pytest.raises(UnfitError, match="more than 10"):
        read_certificates(pem(*many))


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
async def test_roots_of_old_are_read(tmp_path: Path) -> None:
    """Some that are still trusted have the serial number 0, some are of version 1."""
    await output_of(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha1", "-subj", "/CN=Old",
        "-keyout", "root.key", "-out", "root.pem", "-set_serial", 0, "-days", 10_000, cwd=tmp_path,
    )  # fmt: skip
    await output_of(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={DOMAIN}",
        "-keyout", "leaf.key", "-out", "leaf.pem", "-CA", "root.pem", "-CAkey", "root.key",
        "-addext", "basicConstraints=CA:FALSE", "-days", 10_000, cwd=tmp_path,
    )  # fmt: skip
    root, leaf = (
        x509.load_pem_x509_certificate((tmp_path / f"{name}.pem").read_bytes())
        for name in ("root", "leaf")
    )
    assert root.serial_number == 0
    assert ordered(leaf, root) == [leaf]
