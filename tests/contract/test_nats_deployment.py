"""The configuration files for servers of one's own start real servers, over TLS only."""

import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nats
import pytest

from contracts.subjects import inbox
from services.embedded import EmbeddedNats, free_port
from services.provisioning.nats import (
    Server,
    ensure_certificate,
    ensure_seeds,
    provision_streams,
    users,
)
from services.provisioning.nats.configuration import TlsFiles, render_server, write_accounts
from services.provisioning.nats.keys import seed_file
from services.provisioning.nats.permissions import Account, User

DEPLOY = Path(__file__).parents[2] / "deploy" / "nats"
ANYWHERE = "0.0.0.0"  # noqa: S104 - as deployed, in a container
MADE = "/etc/nats/certwire"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a copy of the files, with places of the container moved under it."""
    ensure_seeds(tmp_path / "secrets", users())
    (tmp_path / "certwire").mkdir()
    write_accounts(tmp_path / "certwire" / "accounts.conf", tmp_path / "secrets")
    copy_files(tmp_path)
    return tmp_path


def copy_files(directory: Path) -> None:
    """Copy the files to where `certwire` lies beside them; ports become free ones."""
    for file in DEPLOY.glob("*.conf"):
        text = file.read_text().replace(MADE, str(directory / "certwire"))
        text = text.replace('"/data"', f'"{directory / "data"}"').replace(ANYWHERE, "127.0.0.1")
        text = text.replace("port: 4222", f"port: {free_port()}")
        (directory / file.name).write_text(text.replace("port: 6222", f"port: {free_port()}"))


def write_certificate(directory: Path) -> None:
    ensure_certificate(directory / "certwire", directory / "secrets", ["localhost"])


def start(
    configuration: Path, name: str = "nats-0"
) -> tuple[EmbeddedNats, subprocess.Popen[bytes]]:
    match = re.search(r"port: (\d+)", (configuration.parent / "nats.conf").read_text())
    assert match
    server = EmbeddedNats(configuration, int(match[1]))
    environment = {**os.environ, "NATS_SERVER_NAME": name}
    with (configuration.parent / "log").open("wb") as log:
        process = subprocess.Popen(server.command(), stderr=log, env=environment, **server.popen)
    return server, process


@contextmanager
def running(configuration: Path, name: str = "nats-0") -> Iterator[str]:
    """Run a server; yields its address, by a name that its certificate has."""
    server, process = start(configuration, name)
    try:
        server.wait_ready(process)
        yield f"tls://localhost:{server.port}"
    finally:
        process.kill()
        process.wait()


async def test_one_server_serves_the_streams_over_tls(directory: Path) -> None:
    write_certificate(directory)
    ca_file = directory / "certwire" / "ca.crt"
    with running(directory / "nats.conf") as url:
        await provision_streams(url, directory / "secrets", ca_file=ca_file, timeout_seconds=5)


async def test_three_servers_keep_each_stream_three_times(directory: Path) -> None:
    write_certificate(directory)
    ca_file = directory / "certwire" / "ca.crt"
    with ExitStack() as stack:
        urls = {
            name: stack.enter_context(running(configuration, name))
            for name, configuration in cluster(directory).items()
        }
        await provision_streams(
            urls["nats-0"], directory / "secrets", replicas=3, ca_file=ca_file, timeout_seconds=30
        )
        client = await nats.connect(
            urls["nats-1"],
            nkeys_seed=str(seed_file(directory / "secrets", User("issuer", Account.STREAMS))),
            inbox_prefix=inbox("issuer").encode(),
            tls=ssl.create_default_context(cafile=ca_file),
        )
        stream = await client.jetstream().stream_info("AUDIT")
        await client.close()
    assert stream.cluster is not None
    members = {stream.cluster.leader, *(each.name for each in stream.cluster.replicas or [])}
    assert members == set(urls)


def cluster(directory: Path) -> dict[str, Path]:
    """Return the configuration of three servers, each in a directory of its own."""
    files = {name: directory / name / "cluster.conf" for name in ("nats-0", "nats-1", "nats-2")}
    for file in files.values():
        file.parent.mkdir()
        (file.parent / "certwire").symlink_to(directory / "certwire")
        copy_files(file.parent)
    ports = {name: re.search(r"port: (\d+)", file.read_text()) for name, file in files.items()}
    for file in files.values():
        text = file.read_text()
        for name, port in ports.items():
            assert port
            text = text.replace(f"{name}.nats:6222", f"localhost:{port[1]}")
        file.write_text(text)
    return files


@pytest.mark.parametrize("file", ["nats.conf", "cluster.conf"])
def test_a_server_without_certificate_does_not_start(directory: Path, file: str) -> None:
    _, process = start(directory / file)
    assert process.wait(timeout=10) != 0
    assert "tls.crt" in (directory / "log").read_text()


def test_one_of_three_is_a_valid_configuration(directory: Path) -> None:
    write_certificate(directory)
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
