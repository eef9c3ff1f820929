"""The configuration files for servers of one's own start a real server, over TLS only."""

import datetime as dt
import os
import re
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.embedded import EmbeddedNats, free_port
from services.provisioning.nats import Server, ensure_seeds, provision_streams, users
from services.provisioning.nats.configuration import TlsFiles, render_server, write_accounts

DEPLOY = Path(__file__).parents[2] / "deploy" / "nats"
ANYWHERE = "0.0.0.0"  # noqa: S104 - as deployed, in a container


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a copy of the files, with places of the container moved under it."""
    ensure_seeds(tmp_path / "secrets", users())
    write_accounts(tmp_path / "accounts.conf", tmp_path / "secrets")
    for file in DEPLOY.glob("*.conf"):
        text = file.read_text().replace("/etc/nats/tls", str(tmp_path / "tls"))
        text = text.replace('"/data"', f'"{tmp_path / "data"}"').replace(ANYWHERE, "127.0.0.1")
        text = text.replace("port: 4222", f"port: {free_port()}")
        (tmp_path / file.name).write_text(text.replace("port: 6222", f"port: {free_port()}"))
    (tmp_path / "tls").mkdir()
    return tmp_path


def write_certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nats")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (directory / "tls.crt").write_bytes(pem)
    (directory / "ca.crt").write_bytes(pem)
    (directory / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def start(configuration: Path) -> tuple[EmbeddedNats, subprocess.Popen[bytes]]:
    match = re.search(r"port: (\d+)", (configuration.parent / "nats.conf").read_text())
    assert match
    server = EmbeddedNats(configuration, int(match[1]))
    environment = {**os.environ, "NATS_SERVER_NAME": "nats-0"}
    process = subprocess.Popen(
        server.command(), stderr=subprocess.PIPE, env=environment, **server.popen
    )
    return server, process


async def test_one_server_serves_the_streams_over_tls(directory: Path) -> None:
    write_certificate(directory / "tls")
    server, process = start(directory / "nats.conf")
    try:
        server.wait_ready(process)
        await provision_streams(
            server.url.replace("127.0.0.1", "localhost").replace("nats:", "tls:"),
            directory / "secrets",
            ca_file=directory / "tls" / "ca.crt",
            timeout_seconds=5,
        )
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("file", ["nats.conf", "cluster.conf"])
def test_a_server_without_certificate_does_not_start(directory: Path, file: str) -> None:
    _, process = start(directory / file)
    _, errors = process.communicate(timeout=10)
    assert process.returncode != 0
    assert b"tls.crt" in errors


def test_one_of_three_is_a_valid_configuration(directory: Path) -> None:
    write_certificate(directory / "tls")
    server = EmbeddedNats(directory / "cluster.conf", 0)
    environment = {**os.environ, "NATS_SERVER_NAME": "nats-0"}
    done = subprocess.run(
        [*server.command(), "-t"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr


def test_limits_are_those_of_the_embedded_server(tmp_path: Path) -> None:
    tls = TlsFiles(tmp_path, tmp_path)
    rendered = render_server(Server(port=4222, store=tmp_path, host=ANYWHERE, tls=tls))
    deployed = (DEPLOY / "nats.conf").read_text()
    for setting in ("max_payload", "max_file_store", "max_memory_store", "min_version"):
        pattern = rf'"?{setting}"?: "?([\d.]+)'
        ours, theirs = re.search(pattern, rendered), re.search(pattern, deployed)
        assert ours
        assert theirs
        assert ours[1] == theirs[1]
