"""NATS's certificate: made once, and anew where it no longer serves."""

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from services.provisioning.nats import ensure_certificate, tls
from services.provisioning.nats.tls import CA_FILE, SERVER_FILES, SERVER_LIFETIME
from shared.clock import utc_now

NAMES = ("nats", "nats-0.nats", "127.0.0.1")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("nats", "secrets"):
        (tmp_path / name).mkdir()
    ensure(tmp_path)
    return tmp_path


def ensure(home: Path, names: tuple[str, ...] = NAMES) -> None:
    ensure_certificate(home / "nats", home / "secrets", names)


def files(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}


def certificate(home: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((home / "nats" / "tls.crt").read_bytes())


def shake_hands(home: Path, name: str) -> None:
    """Let a strict client and a server talk in memory. Raises ssl.SSLError."""
    trusted = ssl.create_default_context(cafile=home / "nats" / "ca.crt")
    trusted.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(home / "nats" / "tls.crt", home / "nats" / "tls.key")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        trusted.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    ]
    while sides:
        for side in tuple(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                pass


@pytest.mark.parametrize("name", NAMES)
def test_clients_accept_it_by_each_name(home: Path, name: str) -> None:
    shake_hands(home, name)


def test_clients_refuse_it_by_another_name(home: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(home, "elsewhere")


def test_what_is_good_stays(home: Path) -> None:
    before = files(home)
    assert {path.name for path in before} == {*SERVER_FILES, CA_FILE, "nats-ca.key"}
    assert {path.stat().st_mode & 0o777 for path in before} == {0o600}
    ensure(home)
    assert files(home) == before


def test_other_names_need_another_certificate(home: Path) -> None:
    ca = (home / "nats" / "ca.crt").read_bytes()
    ensure(home, ("nats.example.org", "10.0.0.2"))
    names = certificate(home).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["nats.example.org"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.2")]
    assert (home / "nats" / "ca.crt").read_bytes() == ca
    shake_hands(home, "nats.example.org")


def test_it_is_renewed_in_the_second_half_of_its_life(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = certificate(home)
    for days, renewed in ((-1, False), (+1, True)):
        later = utc_now() + SERVER_LIFETIME / 2 + dt.timedelta(days=days)
        with monkeypatch.context() as patch:
            patch.setattr(tls, "utc_now", lambda later=later: later)
            ensure(home)
        assert (certificate(home) != first) is renewed


@pytest.mark.parametrize("lost", SERVER_FILES)
def test_what_is_lost_is_made_again(home: Path, lost: str) -> None:
    (home / "nats" / lost).unlink()
    ensure(home)
    shake_hands(home, "nats")


def test_a_certificate_of_another_ca_is_replaced(home: Path) -> None:
    for file in (home / "secrets").iterdir():
        file.unlink()
    ensure(home)
    shake_hands(home, "nats")
